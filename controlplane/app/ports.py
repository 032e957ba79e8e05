"""What the application needs of the outside world, as Protocols.

Adapters implement these; they map what goes wrong to the three families of errors below, and the application branches
on the type, never on text.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from controlplane.domain.base.usage import Usage
from controlplane.domain.objects import (
    ClusterEvent,
    Condition,
    Lease,
    LimitedPod,
    ModuleDeployment,
    Node,
    NodeStatus,
    Pod,
    PodStatus,
)
from controlplane.domain.probes import Handler, Outcome
from controlplane.domain.reports import Report
from controlplane.domain.revisions import Revision
from controlplane.domain.workloads.rollout import Workload


class ClusterError(Exception):
    """The cluster did not do what it was asked to. retry_after is in seconds when the cluster named one."""

    retry_after: float | None = None


class Rejected(ClusterError):
    """They said no; asking again in the same way gives the same answer.

    fields are (path, message) pairs where parts of an object were at fault.
    """

    def __init__(self, message: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class NotFound(Rejected):
    """There is no such object."""


class AlreadyExists(Rejected):
    """There is an object of that name."""


class Conflict(Rejected):
    """A precondition (resource version or UID) does not hold any more."""


class Transient(ClusterError):
    """Try later: nothing was done."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageFull(Transient):
    """The cluster has no room to store anything: nothing was done, nor will be until somebody makes room."""


class StorageDamaged(Transient):
    """What the cluster stores cannot be read: nothing was done, nor will be until somebody repairs it."""


class Unknown(ClusterError):
    """It may have been done: read before acting again."""


T_co = TypeVar("T_co", covariant=True)


class Informer(Protocol[T_co]):
    """A cache of all objects of one kind, kept current by a watch.

    Reads never touch the network. Handlers run synchronously after the cache took a change, must not block or raise,
    and get only the key; deletions look like any change. A relist calls them for every object that differs.
    """

    @property
    def synced(self) -> bool:
        """The first full list has been taken; before that, absence means nothing."""

    def get(self, key: str) -> T_co | None:
        """Return the object under namespace/name, or name for Nodes."""

    def all(self) -> Iterable[T_co]:
        """Iterate over a snapshot."""

    def subscribe(self, handler: Callable[[str], None]) -> None:
        """Call handler with the key of each object that changed from now on."""


class Usages(Protocol):
    """What bases use, whichever replica manages them."""

    async def of(self, node: str) -> Usage | None:
        """Return what the base of a VNode uses, None where that is not known. Takes a few seconds at most."""


class PodInformer(Informer[Pod], Protocol):
    """Pods, with an index by Node; its handlers get namespace/name."""

    def on_node(self, node_name: str) -> tuple[Pod, ...]:
        """Return the Pods bound to a Node, oldest first."""

    def subscribe_node(self, handler: Callable[[str], None], *, own: bool | None = None) -> None:
        """Call handler with the Node name whenever a Pod that is or was bound to it changed.

        own: only when that was meant by patch_pod_status, or delete_pod at once (True), or only otherwise (False).
        """


class Cluster(Protocol):
    """Kubernetes, or the embedded cluster: informers, and writes with preconditions.

    Every write raises Rejected (NotFound, AlreadyExists, Conflict), Transient, or Unknown after its deadline. Writes
    return the object as the cluster then has it, and the informer has taken at least that state when they return; of
    the deletion of a Pod it learns later.
    """

    @property
    def pods(self) -> PodInformer:
        """Pods labelled as modules."""

    @property
    def limited_pods(self) -> Informer[LimitedPod]:
        """Pods of bases that have the label contract.MAX_MODULE_COUNT."""

    @property
    def foreign(self) -> PodInformer:
        """Pods that are not labelled as modules, bound to any Node, and still Pending; without status and labels."""

    @property
    def nodes(self) -> Informer[Node]:
        """Nodes labelled as VNodes of our environment."""

    @property
    def leases(self) -> Informer[Lease]:
        """Leases labelled as VNode leases of our environment, in kube-node-lease."""

    @property
    def members(self) -> Informer[Lease]:
        """Member leases of the control plane's replicas, in our own namespace."""

    @property
    def deployments(self) -> Informer[ModuleDeployment]:
        """Deployments with the label of our environment, and those with the strategy "peer" and none of any."""

    def trouble(self) -> str | None:
        """Say in words why the cluster cannot be used now, or None."""

    async def create_node(self, spec: Node) -> Node:
        """Create a Node with its status in one write."""

    async def patch_node(self, current: Node, spec: Node) -> Node:
        """Bring what we own of labels, annotations, taints and the provider ID to spec; others stay. Not the status."""

    async def patch_node_status(self, name: str, status: NodeStatus) -> Node:
        """Merge the status; conditions are merged by type."""

    async def delete_node(self, name: str, uid: str) -> None:
        """Delete a Node if it still is that one."""

    async def create_lease(self, lease: Lease) -> Lease:
        """Create a VNode lease or member lease."""

    async def update_lease(self, lease: Lease) -> Lease:
        """Write holder, times, transitions and annotations if the lease still has lease.resource_version."""

    async def annotate_lease(self, lease: Lease, annotations: Mapping[str, str]) -> Lease:
        """Set annotations, whatever version the lease has; others stay."""

    async def read_lease(self, lease: Lease) -> Lease:
        """Read a lease from the cluster itself, past the informer; raises NotFound."""

    async def delete_lease(self, lease: Lease) -> None:
        """Delete a Lease if it still has lease.resource_version."""

    async def create_pod(self, pod: Pod) -> Pod:
        """Create a module Pod."""

    async def patch_pod_status(self, pod: Pod, status: PodStatus) -> Pod:
        """Merge the status if the Pod still has pod.uid; conditions are merged by type."""

    async def delete_pod(self, pod: Pod, grace_seconds: int | None = None) -> None:
        """Delete a Pod if it still has pod.uid; 0 removes it at once, None leaves the Pod its own grace."""

    async def foreign_pods(self, node_name: str) -> tuple[Pod, ...]:
        """Read the Pods bound to a Node that are not labelled as modules, in any phase; some seconds old at worst."""

    async def reject_pod(self, pod: Pod, reason: str, message: str) -> None:
        """Make a Pod Failed if it still has pod.resource_version; nothing will ever run in it then."""

    async def scale_deployment(self, deployment: ModuleDeployment, replicas: int) -> ModuleDeployment:
        """Set the number of replicas if the Deployment still has deployment.resource_version."""

    async def revisions(self, deployment: ModuleDeployment) -> tuple[Revision, ...]:
        """Read the ReplicaSets of a Deployment, from the cluster itself."""

    async def write_release(self, deployment: ModuleDeployment, state: str, condition: Condition) -> ModuleDeployment:
        """Write how far a release is if the Deployment still has deployment.resource_version."""

    async def release_pod(self, pod: Pod, condition: Condition) -> Pod:
        """Add a condition to a Pod if it still has pod.uid."""

    async def undo_deployment(self, deployment: ModuleDeployment, revision: str) -> ModuleDeployment:
        """Give a Deployment the template of the revision with a hash, if it still has deployment.resource_version.

        Raises NotFound where there is no such ReplicaSet any more.
        """

    async def annotate_deployment(
        self, deployment: ModuleDeployment, annotations: Mapping[str, str | None]
    ) -> ModuleDeployment:
        """Set annotations, or remove those that are None, if the Deployment still has deployment.uid."""

    async def workload(self, kind: str, namespace: str, name: str) -> Workload:
        """Read a Deployment or DaemonSet, from the cluster itself; raises NotFound."""

    async def record_event(self, event: ClusterEvent) -> None:
        """Write a Kubernetes Event."""


@dataclass(frozen=True, slots=True)
class ObjectName:
    """Which object a manifest is about."""

    api_version: str
    kind: str
    namespace: str
    name: str


class Manifests(Protocol):
    """Applies manifests, where the cluster is ours to write (the embedded one)."""

    async def apply(self, manifest: bytes, *, dry_run: bool) -> tuple[ObjectName, str]:
        """Create or update the object that the JSON describes; returns created, configured or unchanged.

        Raises Rejected, with the fields at fault.
        """

    async def delete(self, name: ObjectName, *, grace_seconds: int | None) -> bool:
        """Delete an object; returns False when there was none."""

    async def get(self, name: ObjectName) -> tuple[bytes, bool]:
        """Return an object as JSON, and whether all that it stands for is ready; raises NotFound."""


class ProbeSender(Protocol):
    """Asks modules how they are."""

    async def send(self, ip: str, handler: Handler) -> Outcome:
        """Send one probe to an IP address; whatever goes wrong is a failure. The caller bounds the time."""


class Undelivered(Exception):
    """A hook did not take a report; the message says why, without secrets.

    again: trying again may help, after retry_after seconds at least.
    """

    def __init__(self, message: str, *, again: bool, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.again = again
        self.retry_after = retry_after


class Hook(Protocol):
    """Where reports are sent."""

    @property
    def kind(self) -> str:
        """What it is, for metrics: dingtalk, apprise or link."""

    @property
    def name(self) -> str:
        """Which one it is, for people, without secrets."""

    async def send(self, report: Report) -> None:
        """Deliver one report; raises Undelivered. Called again only when it returned."""


class EventFile(Protocol):
    """The tracker's file."""

    async def append(self, text: str) -> None:
        """Write lines; raises OSError or TimeoutError, and some of it may have been written then."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def monotonic(self) -> float:
        """Seconds that only ever rise; for intervals."""

    def wall(self) -> float:
        """Seconds since the epoch; for display and for what is written."""
