"""What the Node of a base should be: pure functions from what the base reports.

Name, labels, taints, addresses and pod count are those of the Go Module Controller V2. Memory stands for metaspace:
capacity is the JVM's limit, allocatable the limit less what the base itself used before modules came.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Self

from controlplane.domain import contract, quantities
from controlplane.domain.base.environment import Place
from controlplane.domain.facts import Address, Heartbeat, TunnelKind
from controlplane.domain.identity import BaseId, node_name
from controlplane.domain.objects import Condition, Node, NodeStatus, Taint

MOST_PODS = 65535
"""Pods of a VNode unless somebody says less, as in the original."""
NO_ADDRESS = Address("", 0)
"""Of a base over MQTT, which nobody connects to, that does not know its own."""
_WHOLE = re.compile(r"0|[0-9]{1,19}[KMGTPE]i")
LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LIMIT = re.compile(r"[0-9]{1,5}")
_MEMORY_GRAIN = 1024 * 1024
_LABEL_LENGTH, _DIGITS = 63, 10


class HostnameLabel(Enum):
    """Whose name the label kubernetes.io/hostname has: that of the Node, or that of the host as in the original."""

    NODE = "node"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """What the VNodes of all bases have in common.

    resources is what each offers of what its base does not limit, as quantities. cpu, if any, is offered whatever the
    base reports; pods is the most that a base may have. provider_id: Nodes have one of their own.
    """

    resources: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    pods: int = MOST_PODS
    hostname: HostnameLabel = HostnameLabel.NODE
    provider_id: bool = False


NODE_POLICY = NodePolicy()


@dataclass(frozen=True, slots=True)
class Profile:
    """What a base reports of itself.

    metaspace is the JVM's limit in bytes, 0 or less without one, and base_used what the base itself uses of it before
    modules; both are None when never seen. cpu is the CPUs of its machine as a quantity, empty when it does not report
    them.
    """

    base: BaseId
    env: str
    tunnel: TunnelKind
    name: str = ""
    version: str = ""
    cluster_name: str = ""
    host_name: str = ""
    address: Address = NO_ADDRESS
    metaspace: int | None = None
    base_used: int | None = None
    java_version: str = ""
    cpu: str = ""

    @property
    def reported(self) -> tuple[object, ...]:
        """What heartbeats report."""
        return self.name, self.version, self.cluster_name, self.host_name, self.address

    def is_reported_by(self, heartbeat: Heartbeat) -> bool:
        """Return whether a heartbeat reports what is known."""
        address = heartbeat.address
        same = address == self.address or not (address.port or not self.address.ip)
        named = heartbeat.name, heartbeat.version, heartbeat.cluster_name, heartbeat.host_name
        return same and named == (self.name, self.version, self.cluster_name, self.host_name)

    def with_heartbeat(self, heartbeat: Heartbeat) -> Self:
        """Return the profile with what a heartbeat reports; one over MQTT may lack the address."""
        address = heartbeat.address
        return replace(
            self,
            name=heartbeat.name,
            version=heartbeat.version,
            cluster_name=heartbeat.cluster_name,
            host_name=heartbeat.host_name,
            address=address if address.port or not self.address.ip else self.address,
        )


def node_spec(
    profile: Profile,
    *,
    unreachable: str,
    fault: str,
    now: str,
    controller_version: str,
    kubelet: Address | None = None,
    policy: NodePolicy = NODE_POLICY,
    limit: int = MOST_PODS,
) -> Node:
    """Return the Node that stands for a base; now is used for conditions that are new.

    unreachable says why the base cannot be counted on, fault why its tunnel is down, each empty where that is not so.
    kubelet is where the API server finds the kubelet API, if anywhere; limit is the most modules that the base itself
    allows.
    """
    capacity, allocatable = room(profile, policy, limit)
    name = node_name(profile.base, profile.env)
    # One address serves all VNodes: only the path can say which one is meant.
    metrics = {contract.ANNOTATION_METRICS_PATH: f"/nodes/{name}/metrics/resource"} if kubelet is not None else {}
    return Node(
        name=name,
        labels=labels(profile, policy.hostname),
        annotations={
            contract.ANNOTATION_BASE_ADDRESS: str(profile.address),
            contract.ANNOTATION_TUNNEL: profile.tunnel.value,
            **metrics,
        },
        taints=taints(profile.env),
        provider_id=f"koupleless://{name}" if policy.provider_id else "",
        status=NodeStatus(
            conditions=_conditions(profile, unreachable, fault, now),
            addresses=_addresses(profile, kubelet),
            capacity=capacity,
            allocatable=allocatable,
            operating_system="linux",
            architecture="java",
            machine_id=profile.base,
            kubelet_version=f"module-controller-{controller_version}",
            runtime_version=f"java://{profile.java_version}" if profile.java_version else "",
            kubelet_port=kubelet.port if kubelet is not None else 0,
        ),
    )


def taints(env: str) -> tuple[Taint, ...]:
    """Return the taints of all VNodes of an environment."""
    return (
        Taint(contract.TAINT_VIRTUAL_NODE, "True", "NoExecute"),
        Taint(contract.TAINT_NODE_ENV, env, "NoExecute"),
    )


def labels(profile: Profile, hostname: HostnameLabel) -> Mapping[str, str]:
    """Return the labels; values that no label can hold are left out."""
    return {key: value for key, value in _labels(profile, hostname).items() if value and LABEL_VALUE.fullmatch(value)}


def _labels(profile: Profile, hostname: HostnameLabel) -> Mapping[str, str]:
    name, host = hostname_label(node_name(profile.base, profile.env)), profile.host_name or profile.base
    return {
        contract.COMPONENT: contract.COMPONENT_VNODE,
        contract.ENV: profile.env,
        contract.BASE_NAME: profile.name,
        contract.BASE_VERSION: profile.version,
        contract.BASE_CLUSTER_NAME: profile.cluster_name,
        contract.BASE_HOST_NAME: profile.host_name,
        contract.BASE_STACK: contract.STACK_JAVA,
        contract.VNODE_NAME: profile.name,
        contract.VNODE_VERSION: profile.version,
        contract.VNODE_CLUSTER_NAME: profile.cluster_name,
        contract.BASE_TUNNEL_PORT: str(profile.address.port) if profile.address.port else "",
        contract.HOSTNAME: host if hostname is HostnameLabel.HOST else name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/role": "agent",
        contract.TYPE: contract.TYPE_VNODE,
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        **contract.CLOUD_LABELS,
    }


def hostname_label(name: str) -> str:
    """Return the name of a Node as a label value: one that is too long ends with a digest of the whole."""
    if len(name) <= _LABEL_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: _LABEL_LENGTH - _DIGITS - 1]}-{digest}"


OWN_LABELS = frozenset(_labels(Profile(BaseId("b"), "", TunnelKind.HTTP), HostnameLabel.NODE))
"""Keys of the labels that are ours, whether or not a base has a value for each."""


def _addresses(profile: Profile, kubelet: Address | None) -> tuple[tuple[str, str], ...]:
    if kubelet is not None:
        # The API server dials what it prefers, by default the host name: there must be nothing else to prefer.
        return (("InternalIP", kubelet.ip),)
    addresses = (("InternalIP", profile.address.ip), ("Hostname", profile.host_name))
    return tuple((kind, address) for kind, address in addresses if address)


def _conditions(profile: Profile, unreachable: str, fault: str, now: str) -> tuple[Condition, ...]:
    ready, up = "BaseUnreachable" if unreachable else "BaseReady", "TunnelDown" if fault else "TunnelUp"
    return tuple(
        Condition(kind, "True" if holds else "False", reason, message, now)
        for kind, holds, reason, message in (
            ("Ready", not unreachable, ready, unreachable or "the base answers"),
            ("TunnelAvailable", not fault, up, fault or f"the {profile.tunnel.value} tunnel is up"),
            ("MemoryPressure", False, "KubeletHasSufficientMemory", "metaspace is not watched for pressure"),
            ("DiskPressure", False, "KubeletHasNoDiskPressure", "a base has no disk of its own"),
            ("PIDPressure", False, "KubeletHasSufficientPID", "a base has no processes of its own"),
            ("NetworkUnavailable", False, "RouteCreated", "a base uses its host's network"),
        )
    )


def room(profile: Profile, policy: NodePolicy, limit: int = MOST_PODS) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return capacity and allocatable.

    CPU is that of the base's machine, or what is offered where the base does not report it. Memory is that of
    metaspace, or what is offered where the JVM has no limit; as long as the base has not reported which there is no
    figure. What is not offered either has none, rather than 0.
    """
    cpu = policy.cpu or profile.cpu
    unlimited = {**policy.resources, **({"cpu": cpu} if cpu else {}), "pods": str(min(policy.pods, limit))}
    metaspace = profile.metaspace
    if metaspace is not None and metaspace <= 0:
        return unlimited, unlimited
    rest = {name: size for name, size in unlimited.items() if name != "memory"}
    if metaspace is None:
        return rest, rest
    # Rounded up to whole MiB so that a base's small movements are not worth a write.
    used = min(-(-max(profile.base_used or 0, 0) // _MEMORY_GRAIN) * _MEMORY_GRAIN, metaspace)
    return {**rest, "memory": quantity(metaspace)}, {**rest, "memory": quantity(metaspace - used)}


def module_limit(text: str) -> int | None:
    """Return how many modules a label allows, None for what is no whole number from 1 to 65535."""
    return int(text) if _LIMIT.fullmatch(text) and 0 < int(text) <= MOST_PODS else None


def place(profile: Profile) -> Place:
    """Return what variables of Pods on a base may refer to; what is only offered is no measure of it."""
    _, allocatable = room(profile, NODE_POLICY)
    return Place(profile.address.ip, allocatable.get("memory", ""))


def quantity(size: int) -> str:
    """Return bytes, rounded down to KiB, as the API server itself writes them, so that comparing texts suffices."""
    return quantities.shortest(size // 1024 * 1024, binary=True)


def parse_quantity(text: str) -> int | None:
    """Return the bytes of a quantity such as quantity writes, None for any other text."""
    return int(quantities.parse(text) or 0) if _WHOLE.fullmatch(text) else None


def metadata_differs(node: Node, spec: Node) -> bool:
    """Return whether labels, annotations, taints or the provider ID, as far as they are ours, are to be written."""
    return (
        any(node.labels.get(key) != value for key, value in spec.labels.items())
        or any(node.annotations.get(key) != value for key, value in spec.annotations.items())
        or any(taint not in node.taints for taint in spec.taints)
        or (bool(spec.provider_id) and not node.provider_id)
        or bool(outdated(node, spec))
    )


def outdated(node: Node, spec: Node) -> frozenset[str]:
    """Return the annotations of ours that a Node has and should not have."""
    return frozenset({contract.ANNOTATION_METRICS_PATH} & node.annotations.keys() - spec.annotations.keys())


def with_times(current: NodeStatus, wanted: NodeStatus) -> NodeStatus:
    """Return the wanted status with the transition times of conditions that stay as they are."""
    return replace(wanted, conditions=tuple(each.after(current.conditions) for each in wanted.conditions))


def shows(current: NodeStatus, wanted: NodeStatus) -> bool:
    """Return whether a Node's status says all that is wanted; conditions that are not ours are left to others."""
    same = set(wanted.conditions) <= set(current.conditions)
    return same and replace(current, conditions=wanted.conditions) == wanted


def kubelet_of(node: Node) -> Address | None:
    """Return where a Node says that its kubelet API is; None if it does not name a port."""
    ip = _internal_ip(node)
    return Address(ip, node.status.kubelet_port) if ip and node.status.kubelet_port else None


def _internal_ip(node: Node) -> str:
    return next((address for kind, address in node.status.addresses if kind == "InternalIP"), "")


def address_of(node: Node, kubelet_ip: str = "") -> Address | None:
    """Return where the base of a Node listens, from our annotation or as the original kept it; None if it is not there.

    The original replaces the base's address by kubelet_ip, that of the Service before its kubelet API: then nothing is
    known of it, which is an Address without ip. So it is of a base over MQTT that does not know its own address.
    """
    if node.annotations.get(contract.ANNOTATION_BASE_ADDRESS) == str(NO_ADDRESS):
        return NO_ADDRESS
    ip, _, port = node.annotations.get(contract.ANNOTATION_BASE_ADDRESS, "").rpartition(":")
    if not ip:
        ip = _internal_ip(node)
        port = node.labels.get(contract.BASE_TUNNEL_PORT, "")
        if ip and ip == kubelet_ip:
            return NO_ADDRESS
    ip = ip.strip("[]")
    if not ip or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        return Address(ip, 0) if ip and not port else None
    return Address(ip, int(port))


def profile_of(node: Node, base: BaseId, env: str, *, kubelet_ip: str = "") -> Profile | None:
    """Return what a Node shows of its base, for a replica that takes it over; None without an address.

    kubelet_ip is the address that Nodes have in place of their base's, if any.
    """
    address = address_of(node, kubelet_ip)
    if address is None:
        return None
    labels, status = node.labels, node.status
    named = node.annotations.get(contract.ANNOTATION_TUNNEL, "")
    likely = TunnelKind.HTTP if address.port or labels.get(contract.BASE_TUNNEL_PORT) else TunnelKind.MQTT
    capacity = parse_quantity(status.capacity.get("memory", ""))
    allocatable = parse_quantity(status.allocatable.get("memory", ""))
    # As long as it is not known what the base uses itself, all of the capacity is allocatable.
    base_used = capacity - allocatable if capacity is not None and allocatable is not None else 0
    return Profile(
        base=base,
        env=env,
        name=labels.get(contract.BASE_NAME, ""),
        version=labels.get(contract.BASE_VERSION, ""),
        cluster_name=labels.get(contract.BASE_CLUSTER_NAME, ""),
        host_name=labels.get(contract.BASE_HOST_NAME, ""),
        address=address,
        tunnel=next((kind for kind in TunnelKind if kind.value == named), likely),
        java_version=status.runtime_version.removeprefix("java://"),
        cpu=status.capacity.get("cpu", ""),
        metaspace=capacity,
        base_used=base_used if base_used > 0 else None,
    )
