"""The part of the Kubernetes API that we use, as a port: objects as JSON.

Two adapters speak it: ``controlplane.kube`` to a real API server and ``controlplane.embedded`` to SQLite. Everything
above (informers, translation to views, patches) is written once against this and never knows which one it has. Errors
are those of ``controlplane.app.ports`` plus Expired.
"""

from collections.abc import AsyncIterator, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeAlias

from controlplane.app.ports import Rejected

Json: TypeAlias = dict[str, Any]


class Expired(Rejected):
    """The resource version is too old to watch from (410): list again."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object and where the API has it; group_version as in apiVersion."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def manifest(self, metadata: Json, **parts: Any) -> Json:
        """Return an object of this kind."""
        return {"apiVersion": self.group_version, "kind": self.kind, "metadata": metadata, **parts}


NODES = Resource("v1", "nodes", "Node", namespaced=False)
PODS = Resource("v1", "pods", "Pod")
EVENTS = Resource("v1", "events", "Event")
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps/v1", "replicasets", "ReplicaSet")
DAEMON_SETS = Resource("apps/v1", "daemonsets", "DaemonSet")
SERVICES = Resource("v1", "services", "Service")
SECRETS = Resource("v1", "secrets", "Secret")
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
CERTIFICATE_REQUESTS = Resource(
    "certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest", namespaced=False
)
TOKEN_REVIEWS = Resource("authentication.k8s.io/v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)


class PatchType(Enum):
    """How a patch is merged; the value is the content type."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A consistent list and the version to watch from."""

    items: tuple[Json, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change. type is ADDED, MODIFIED, DELETED or BOOKMARK (object holds only metadata.resourceVersion then)."""

    type: str
    object: Json


class ApiServer(Protocol):
    """Reads and writes of Kubernetes objects.

    Writes are bounded by a deadline of the adapter. A connection that was never made, 429 and 5xx are Transient; a
    reply that never came is Unknown, and so is the server's answer that a write timed out inside it. A name that cannot
    be one of an object (empty, or with a slash) is Rejected.
    """

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """Return one object; raises NotFound."""

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        from_memory: bool = False,
    ) -> ObjectList:
        """Return all matching objects; an empty namespace means all namespaces.

        from_memory: what the server has in memory will do, though it may be some seconds old. Only then do all versions
        of Kubernetes find the Pods of a Node in an index; before 1.31 they read all Pods from etcd otherwise.
        """

    def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        echoes: Container[str] = (),
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after resource_version, bookmarks included.

        What was modified to one of the versions in echoes may come as a bookmark of that version: who asks knows the
        object.

        The first event may be a bookmark of resource_version itself: the watch stands. An object that stops matching
        the selectors is DELETED. The iterator ends when the server ends the watch, which is normal: watch again from
        the last version seen. Raises Expired, Transient.
        """

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        """Create an object; raises AlreadyExists, Rejected."""

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Json,
        *,
        namespace: str = "",
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
        urgent: bool = False,
    ) -> Json:
        """Patch an object or a part; metadata.resourceVersion and metadata.uid in it are preconditions (Conflict).

        subresource is empty, status or scale; the latter takes and gives a Scale. urgent writes (lease renewals) go
        before all others.
        """

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
    ) -> None:
        """Delete an object; uid and resource_version are preconditions when given; raises NotFound, Conflict."""


class PodLogs(Protocol):
    """Logs of containers, which only a real API server has."""

    def pod_log(
        self, namespace: str, name: str, options: Mapping[str, str], *, idle: float | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the log of a container as it comes, in pieces of at most some 100 KB; options are the API's own.

        Nothing more is read while a piece is not taken. idle is how many seconds may pass without a byte, the first one
        included; None: as many as it takes. Entering and reading raise NotFound, Rejected and Transient; status and
        words are the API server's.
        """


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request that turns its connection into a stream of another protocol.

    verb is get or create; subresource is exec, attach or portforward, and options are its own; headers say which
    protocol is wanted.
    """

    verb: str
    subresource: str
    options: Sequence[tuple[str, str]]
    headers: Sequence[tuple[str, str]]


class ByteStream(Protocol):
    """Bytes in both directions."""

    async def read(self) -> bytes:
        """Return the bytes that came, nothing at the end."""

    async def rest(self) -> bytes:
        """Return what came and was not read, without waiting for more; what comes later is passed over."""

    async def write(self, data: bytes) -> None:
        """Write bytes; returns when not too many wait. Raises ConnectionError."""

    def write_now(self, data: bytes) -> None:
        """Write bytes without waiting, unless the connection has ended."""


class PodStreams(Protocol):
    """Streams to containers, which only a real API server has."""

    def pod_stream(
        self, namespace: str, name: str, upgrade: Upgrade, *, opens_within: float
    ) -> AbstractAsyncContextManager[tuple[Mapping[str, str], ByteStream]]:
        """Give the headers of the answer that upgrades the connection, and what follows it.

        What was written is still sent when the block ends in order or by cancellation. Entering raises NotFound,
        Rejected and Transient; status and words are the API server's.
        """


class PodAccess(PodLogs, PodStreams, Protocol):
    """What leads to the containers of Pods."""
