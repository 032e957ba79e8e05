"""Finds the Pod in which a base runs, whose log is that of its modules.

A base tells its host name, which in a Pod is the Pod's name, and its address, which
is the Pod's. Both are told by the base itself, so that they alone open no log: the
Pod must have a container of the name that bases use, or that its label gives.
Module Pods have the address of their base too and are never taken for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from controlplane.app.ports import Rejected
from controlplane.cluster import fields
from controlplane.cluster.api import PODS, ApiServer, Json
from controlplane.domain import contract
from controlplane.domain.base.vnode import address_of
from controlplane.domain.objects import Node
from controlplane.kubelet.refusal import Refusal

_ENDED = ("Succeeded", "Failed")
"""Phases of Pods whose address may be another Pod's by now."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class BasePod:
    """A Pod that may be a base; container is the one that would be its base's, container_names are those it has."""

    namespace: str
    name: str
    container: str
    container_names: tuple[str, ...]
    addresses: frozenset[str]
    ended: bool

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def serves(self) -> bool:
        """Whether it has the container."""
        return self.container in self.container_names


class BasePods:
    """Looks base Pods up. namespace is tried after that of the module and before all others."""

    def __init__(self, api: ApiServer, *, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def find(self, node: Node, module_namespace: str) -> BasePod:
        """Return the Pod of a VNode's base; raises Refusal, ClusterError."""
        host, address = node.labels.get(contract.BASE_HOST_NAME, ""), address_of(node)
        ip = _plain(address.ip) if address is not None else ""
        seen: list[BasePod] = []
        async for pods in self._candidates(host, ip, module_namespace):
            seen += pods
            if found := chosen(seen, host, ip):
                return found
        # Where a base has several addresses it may tell another one than its Pod's.
        if found := named(seen, host, module_namespace):
            return found
        raise Refusal(400, "no_base_pod", not_found(node.name, host, ip, seen))

    async def _candidates(self, host: str, ip: str, namespace: str) -> AsyncIterator[list[BasePod]]:
        for place in dict.fromkeys((namespace, self._namespace)):
            if host:
                yield await self._list(f"metadata.name={host}", place)
        if ip:
            yield await self._list(f"status.podIP={ip}", "")

    async def _list(self, field_selector: str, namespace: str) -> list[BasePod]:
        try:
            listed = await self._api.list(PODS, namespace=namespace, field_selector=field_selector)
        except Rejected as error:
            raise Refusal(500, "forbidden", f"the Pods of bases cannot be looked up: {error}") from error
        return list(candidates(listed.items))


def _plain(ip: str) -> str:
    """Return an address as Kubernetes writes it; it goes into a selector, so that what is none is dropped."""
    try:
        return str(ip_address(ip))
    except ValueError:
        return ""


def candidates(objects: Iterable[Json]) -> Iterator[BasePod]:
    """Yield the Pods that may be a base."""
    for obj in objects:
        meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
        labels = fields.words(meta, "labels")
        if labels.get(contract.COMPONENT) == contract.COMPONENT_MODULE:
            continue
        told = [fields.text(each, "ip") for each in fields.objects(status, "podIPs")]
        yield BasePod(
            namespace=fields.text(meta, "namespace"),
            name=fields.text(meta, "name"),
            container=labels.get(contract.BASE_CONTAINER) or contract.BASE_CONTAINER_DEFAULT,
            container_names=tuple(fields.text(each, "name") for each in fields.objects(spec, "containers")),
            addresses=frozenset(each for each in (*told, fields.text(status, "podIP")) if each),
            ended=fields.text(status, "phase") in _ENDED,
        )


def chosen(pods: Sequence[BasePod], host: str, ip: str) -> BasePod | None:
    """Return the Pod that has the base's address; where several have (they use their host's), by its name."""
    at_address = {pod.key: pod for pod in pods if ip and ip in pod.addresses and pod.serves and not pod.ended}
    of_that_name = [pod for pod in at_address.values() if pod.name == host]
    fitting = of_that_name or list(at_address.values())
    return fitting[0] if len(fitting) == 1 else None


def named(pods: Sequence[BasePod], host: str, namespace: str) -> BasePod | None:
    """Return the Pod that is called as the base's host in the module's namespace."""
    return next((pod for pod in pods if pod.name == host and pod.namespace == namespace and pod.serves), None)


def not_found(vnode: str, host: str, ip: str, seen: Sequence[BasePod]) -> str:
    """Say why there is no log."""
    known = {pod.key: pod for pod in seen if not pod.ended}
    nearly = [pod for pod in known.values() if not pod.serves]
    if nearly:
        pod = nearly[0]
        return (
            f"Pod {pod.key}, in which the base of {vnode} seems to run, has no container {pod.container!r}: set its "
            f"label {contract.BASE_CONTAINER} to the container of the base ({', '.join(pod.container_names[:SHOWN])})"
        )
    if known:
        names = ", ".join(list(known)[:SHOWN])
        return f"it is not clear in which Pod the base of {vnode} runs (host {host!r}, address {ip!r}): {names}"
    return (
        f"the base of {vnode} (host {host or 'not told'!r}, address {ip or 'not told'!r}) runs in no Pod of this "
        "cluster that has that address, so that there is no log: read it where the base runs"
    )
