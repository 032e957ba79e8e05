"""Finds the Pod in which a base runs, whose log is that of its modules.

A base reports its host name, which in a Pod is the Pod's name, and its address, which is the Pod's. Both come from the
base itself, so that they alone open no log: the Pod must have a container of the name that bases use, or that its label
gives. Module Pods have the address of their base too and are never taken for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from controlplane.app.ports import Rejected
from controlplane.cluster import fields
from controlplane.cluster.api import PODS, ApiServer, Json
from controlplane.domain import contract
from controlplane.domain.base.vnode import address_of
from controlplane.domain.objects import Node
from service.refusals import RequestRefused

_ENDED = ("Succeeded", "Failed")
"""Phases of Pods whose address may be another Pod's by now."""
SHOWN = 5


class NoBasePod(RequestRefused):
    """The base of a VNode runs in no Pod of this cluster; host and ip are what it reports, or empty."""

    def __init__(self, vnode: str, host: str, ip: str) -> None:
        where = f"host {host or 'not known'}, address {ip or 'not known'}"
        super().__init__(400, "no_base_pod", f"the base of {vnode} ({where}) runs in no Pod of this cluster")
        self.vnode = vnode
        self.host = host
        self.ip = ip


@dataclass(frozen=True, slots=True)
class BasePod:
    """A Pod that may be a base; container is the one that would be its base's, container_names are those it has.

    exec_from are other namespaces from whose module Pods streams may lead into it.
    """

    namespace: str
    name: str
    container: str
    container_names: tuple[str, ...]
    addresses: frozenset[str]
    ended: bool
    exec_from: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def serves(self) -> bool:
        """Whether it has the container."""
        return self.container in self.container_names

    def may_be_entered_from(self, namespace: str) -> bool:
        """Return whether streams of module Pods in a namespace may lead into it."""
        return namespace == self.namespace or namespace in self.exec_from


async def find(api: ApiServer, node: Node, namespaces: Sequence[str]) -> BasePod:
    """Return the Pod of a VNode's base; raises NoBasePod where there is none, RequestRefused, ClusterError.

    The first of the namespaces is that of the module; they are tried before all others.
    """
    host, address = node.labels.get(contract.BASE_HOST_NAME, ""), address_of(node)
    ip = _plain(address.ip) if address is not None else ""
    selectors = [(f"metadata.name={host}", each) for each in dict.fromkeys(namespaces) if host]
    selectors += [(f"status.podIP={ip}", "")] if ip else []
    seen: dict[str, BasePod] = {}
    for selector, namespace in selectors:
        try:
            listed = await api.list(PODS, namespace=namespace, field_selector=selector)
        except Rejected as error:
            raise RequestRefused(500, "forbidden", f"the Pods of bases cannot be looked up: {error}") from error
        seen |= {pod.key: pod for obj in listed.items if (pod := _candidate(obj)) is not None}
        if found := _at_address(list(seen.values()), host, ip):
            return found
    # Where a base has several addresses it may report another one than its Pod's.
    named = seen.get(f"{namespaces[0]}/{host}")
    if named is not None and named.serves:
        return named
    raise _not_found(node.name, host, ip, [pod for pod in seen.values() if not pod.ended])


def _plain(ip: str) -> str:
    """Return an address as Kubernetes writes it, nothing for what is not one: it goes into a selector."""
    try:
        return str(ip_address(ip))
    except ValueError:
        return ""


def _candidate(obj: Json) -> BasePod | None:
    meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
    labels = fields.words(meta, "labels")
    if labels.get(contract.COMPONENT) == contract.COMPONENT_MODULE:
        return None
    named = fields.words(meta, "annotations").get(contract.ANNOTATION_EXEC_FROM, "")
    addresses = {fields.text(status, "podIP"), *(fields.text(each, "ip") for each in fields.objects(status, "podIPs"))}
    return fields.view(
        BasePod,
        meta,
        container=labels.get(contract.BASE_CONTAINER) or contract.BASE_CONTAINER_DEFAULT,
        container_names=tuple(fields.text(each, "name") for each in fields.objects(spec, "containers")),
        addresses=frozenset(addresses - {""}),
        ended=fields.text(status, "phase") in _ENDED,
        exec_from=frozenset(map(str.strip, named.split(","))),
    )


def _at_address(pods: Sequence[BasePod], host: str, ip: str) -> BasePod | None:
    """Return the Pod that has the base's address; where several have (they use their host's), by its name."""
    fitting = [pod for pod in pods if ip in pod.addresses and pod.serves and not pod.ended]
    fitting = [pod for pod in fitting if pod.name == host] or fitting
    return fitting[0] if len(fitting) == 1 else None


def _not_found(vnode: str, host: str, ip: str, seen: Sequence[BasePod]) -> RequestRefused:
    for pod in seen:
        if not pod.serves:
            text = (
                f"Pod {pod.key}, in which the base of {vnode} seems to run, has no container {pod.container!r}: set "
                f"its label {contract.BASE_CONTAINER} to the container of the base "
                f"({', '.join(pod.container_names[:SHOWN])})"
            )
            return RequestRefused(400, "wrong_container", text)
    if seen:
        names = ", ".join(pod.key for pod in seen[:SHOWN])
        text = f"it is not clear in which Pod the base of {vnode} runs (host {host!r}, address {ip!r}): {names}"
        return RequestRefused(400, "ambiguous_base", text)
    return NoBasePod(vnode, host, ip)
