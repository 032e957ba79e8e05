"""What the control plane knows of Kubernetes objects: small frozen views.

Adapters translate between these and the objects on the wire; nothing inward of the adapters sees a dictionary. Times
are RFC 3339 texts as the cluster has them, because they are only ever compared for equality or written back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Self

from controlplane.domain import contract, jars
from controlplane.domain.identity import ModuleKey
from controlplane.domain.probes import NO_PROBES, Probes
from controlplane.domain.revisions import Releasing


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a Node or Pod. status is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""

    def after(self, before: Iterable[Self]) -> Self:
        """Return it with the transition time that it had among these, if its status is the same."""
        times = (each.last_transition_time for each in before if (each.type, each.status) == (self.type, self.status))
        since = next(times, "") or self.last_transition_time
        return type(self)(self.type, self.status, self.reason, self.message, since)

    @classmethod
    def of(cls, conditions: Iterable[Self], kind: str) -> Self:
        """Return the condition of a type, one without a status where there is none."""
        return next((each for each in conditions if each.type == kind), cls(kind, ""))

    @classmethod
    def merged(cls, ours: Iterable[Self], before: Sequence[Self]) -> tuple[Self, ...]:
        """Return conditions that are ours, with the time since when their status is what it is, and those of others."""
        changed = tuple(each.after(before) for each in ours)
        types = {each.type for each in changed}
        return changed + tuple(each for each in before if each.type not in types)


@dataclass(frozen=True, slots=True)
class Taint:
    """A Node's taint."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    """A Pod's toleration; empty key with operator Exists tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector; operator as in Kubernetes (In, NotIn, Exists, DoesNotExist, Gt, Lt)."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One alternative of required node affinity: all requirements on labels and on fields must be met."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class SchedulingRules:
    """What a Pod template demands of its Node.

    required_affinity is a disjunction; None means no demand, an empty tuple matches nothing, as in Kubernetes.
    """

    node_name: str = ""
    node_selector: tuple[Requirement, ...] = ()
    required_affinity: tuple[NodeTerm, ...] | None = None
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A rule of an object is not known here, so that nothing can be concluded from the others: what says which."""

    what: str


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A reference to a field of the Pod; path is metadata.name, metadata.labels['KEY'], status.podIP, ..."""

    path: str


@dataclass(frozen=True, slots=True)
class ResourceRef:
    """A reference to a limit or request of a container.

    resource is limits.memory, requests.cpu, ...; quantity is what the container (or, for a limit, its Pod) says, empty
    when it says nothing; divisor is a quantity, or empty for 1.
    """

    resource: str
    divisor: str
    quantity: str


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a module Pod: name is bizName, version is bizVersion, image says where the jar is.

    args and env are as the Pod says them, before anything is expanded; version is resolved. unsupported says which
    field keeps it from being installed (empty: none). memory is what it requests, in bytes.
    """

    name: str
    image: str
    version: str = ""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str | FieldRef | ResourceRef], ...] = ()
    unsupported: str = ""
    probes: Probes = NO_PROBES
    memory: int = 0

    @property
    def key(self) -> ModuleKey:
        """The module that it stands for."""
        return ModuleKey(self.name, self.version)

    @property
    def url(self) -> str:
        """Where a base gets the jar: bizUrl."""
        return jars.url(self.image)


class ContainerKind(Enum):
    """What a container that is no module is called in messages."""

    CONTAINER = "container"
    INIT = "init container"
    SIDECAR = "native sidecar"
    EPHEMERAL = "ephemeral container"


@dataclass(frozen=True, slots=True)
class OtherContainer:
    """A container of a module Pod that is no module: it is not run."""

    kind: ContainerKind
    name: str
    image: str


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """State of one container. kind is waiting, running, terminated, or empty for none; started: so its probe said.

    started_at belongs to running and terminated, exit_code and finished_at to terminated, reason and message to waiting
    and terminated.
    """

    name: str
    kind: str = ""
    ready: bool = False
    image: str = ""
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    exit_code: int = 0
    restart_count: int = 0
    started: bool = False


@dataclass(frozen=True, slots=True)
class PodStatus:
    """The part of a Pod's status that the control plane writes, and the conditions that it reads.

    containers are the modules, others the containers that are none, in the order of Pod.others.
    """

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = ""
    host_ip: str = ""
    start_time: str = ""
    conditions: tuple[Condition, ...] = ()
    containers: tuple[ContainerStatus, ...] = ()
    others: tuple[ContainerStatus, ...] = ()

    @property
    def fingerprint(self) -> int:
        """Return a number that is the same for all statuses that say the same, whatever times they have."""
        conditions = frozenset((each.type, each.status, each.reason, each.message) for each in self.conditions)
        containers = tuple(replace(each, started_at="", finished_at="") for each in (*self.containers, *self.others))
        return hash((self.phase, self.reason, self.message, self.pod_ip, self.host_ip, conditions, containers))

    @property
    def terminal(self) -> bool:
        """Return whether the phase is one that a Pod never leaves, whoever put it there."""
        return self.phase in ("Succeeded", "Failed")

    def of(self, container: Container) -> ContainerStatus:
        """Return the status of a module; an empty one where it has none."""
        found = (status for status in self.containers if status.name == container.name)
        return next(found, ContainerStatus(container.name))


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod as the cluster has it, or, without UID and resource version, as it is to be created.

    containers are the modules, others those that are not run. ignored says in words what of the Pod has no effect
    though it would matter elsewhere. owner is the controller that made it. deleting: its deletion was asked for, with
    deletion_grace_seconds.
    tolerations are known only of one that is to be created.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    node_name: str
    containers: tuple[Container, ...]
    status: PodStatus = PodStatus()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    readiness_gates: tuple[str, ...] = ()
    owner_uid: str = ""
    owner_name: str = ""
    owner_kind: str = ""
    creation_timestamp: str = ""
    deleting: bool = False
    deletion_grace_seconds: int | None = None
    service_account: str = ""
    active_deadline: int | None = None
    """Seconds since its start that it may be active."""
    others: tuple[OtherContainer, ...] = ()
    ignored: str = ""
    tolerations: tuple[Toleration, ...] = ()

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class LimitedPod:
    """A Pod whose label limits the modules of the base that runs in it; limit is the label's text."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    addresses: tuple[str, ...]
    host_network: bool
    ended: bool
    limit: str

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The part of a Node's status that the control plane writes.

    Quantities are Kubernetes texts, for example {"pods": "65535", "memory": "262144Ki"}. addresses are (type, address)
    pairs.
    """

    conditions: tuple[Condition, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    capacity: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)
    operating_system: str = ""
    architecture: str = ""
    machine_id: str = ""
    kubelet_version: str = ""
    runtime_version: str = ""
    kubelet_port: int = 0
    """TCP port of the kubelet API at the Node's address; 0 when it has none."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node as the cluster has it, or, without UID and resource version, as it should be."""

    name: str
    uid: str = ""
    resource_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    provider_id: str = ""
    """Set once: the API server lets nobody change it."""
    status: NodeStatus = NodeStatus()
    creation_timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease as the cluster has it. transitions is the fence."""

    namespace: str
    name: str
    resource_version: str
    holder: str = ""
    duration_seconds: int = 0
    renew_time: str = ""
    acquire_time: str = ""
    transitions: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""


@dataclass(frozen=True, slots=True)
class ModuleDeployment:
    """A Deployment of modules, as far as baselines and replica counts need it.

    rules are those of its template. selector chooses its Pods by their labels; None chooses none. beyond_node names
    what else decides where its Pods go: a scheduling gate, or a rule about other Pods than those of the same Node;
    empty if nothing does. releasing is there for one that is released in batches.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    replicas: int | None = None
    containers: tuple[Container, ...] = ()
    rules: SchedulingRules | NotUnderstood = SchedulingRules()
    creation_timestamp: str = ""
    selector: tuple[Requirement, ...] | None = None
    beyond_node: str = ""
    releasing: Releasing | None = None

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def is_peer(self) -> bool:
        """Its replicas are to follow the number of bases."""
        return (
            self.labels.get(contract.STRATEGY) == contract.STRATEGY_PEER
            and self.labels.get(contract.REPLICAS_CONTROL) != contract.REPLICAS_CONTROL_OTHERS
        )


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """A Kubernetes Event to be written. kind is "Pod", "Node" or "Deployment", type "Normal" or "Warning"."""

    kind: str
    namespace: str
    name: str
    uid: str
    type: str
    reason: str
    message: str
