"""What mctl shows, as frozen records; the field order is the order of the JSON keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One item of an answer. kind is the word before the slash in names."""

    kind: ClassVar[str] = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what stays the same while the item changes."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Return the name that other commands take, kind/name."""
        return f"{self.kind}/{self.identity[-1]}"

    def to_json(self) -> Json:
        """Return the item with camelCase keys; times are RFC 3339 in UTC, absent ones null."""
        return {_camel(f.name): _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class VNode(Record):
    """A base as a Kubernetes Node: created is when that was, since when its owner knows the base.

    modules is how many it has, None while that is not known.
    """

    kind: ClassVar[str] = "vnode"
    name: str
    base: str
    cluster_name: str
    version: str
    tunnel: str
    state: str
    ready: bool
    owner: str
    modules: int | None
    base_name: str = ""
    address: str = ""
    gateway: str = ""
    last_seen: datetime | None = None
    since: datetime | None = None
    message: str = ""
    fence: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """Return the Node name."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Module(Record):
    """A module on a VNode."""

    kind: ClassVar[str] = "module"
    vnode: str
    name: str
    version: str
    state: str
    ready: bool
    namespace: str
    pod: str
    reason: str
    message: str
    url: str = ""
    restarts: int = 0
    operation: str = ""
    management: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """Return VNode, Pod and name:version."""
        return (self.vnode, self.namespace, self.pod, f"{self.name}:{self.version}")


@dataclass(frozen=True, slots=True)
class Gateway(Record):
    """A connected gateway."""

    kind: ClassVar[str] = "gateway"
    id: str
    tunnel: str
    version: str
    tunnel_up: bool
    watched: int
    orders: int
    connected_since: datetime | None = None
    message: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """Return the gateway id."""
        return (self.id,)


@dataclass(frozen=True, slots=True)
class Replica(Record):
    """A control plane process; self marks the one that answered."""

    kind: ClassVar[str] = "replica"
    id: str
    address: str
    vnodes: int
    self: bool
    state: str = ""
    tunnels: tuple[str, ...] = ()

    @property
    def identity(this) -> tuple[str, ...]:
        """Return the replica id."""
        return (this.id,)


@dataclass(frozen=True, slots=True)
class Shard(Record):
    """A VNode and the replica that owns it; state is that of the owner."""

    kind: ClassVar[str] = "shard"
    vnode: str
    base: str
    owner: str
    state: str
    fence: int
    since: datetime | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """Return the Node name."""
        return (self.vnode,)


@dataclass(frozen=True, slots=True)
class Event(Record):
    """Something that happened to a VNode or a module."""

    kind: ClassVar[str] = "event"
    time: datetime | None
    type: str
    reason: str
    message: str
    vnode: str
    module: str
    pod: str

    @property
    def identity(self) -> tuple[str, ...]:
        """Return all that it says: events never change."""
        return (str(self.time), self.type, self.vnode, self.module, self.pod, self.message, self.reason)


@dataclass(frozen=True, slots=True)
class Operation(Record):
    """What install or uninstall did for one Pod: created, unchanged, deleted or failed, with reason and message."""

    kind: ClassVar[str] = "pod"
    vnode: str
    namespace: str
    pod: str
    result: str
    reason: str = ""
    message: str = ""

    @property
    def failed(self) -> bool:
        """It was not done."""
        return self.result == "failed"

    @property
    def identity(self) -> tuple[str, ...]:
        """Return namespace and Pod."""
        return (self.namespace, self.pod)


@dataclass(frozen=True, slots=True)
class PastOperation(Record):
    """An order to a base that ended; seconds is how long it took."""

    kind: ClassVar[str] = "operation"
    time: datetime | None
    vnode: str
    name: str
    version: str
    verb: str
    outcome: str
    seconds: float
    reason: str
    message: str

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what it was done to, and when."""
        return (self.vnode, self.name, self.version, str(self.time))


@dataclass(frozen=True, slots=True)
class Ref(Record):
    """An object of the cluster, by name."""

    api_version: str
    object_kind: str
    namespace: str
    name: str

    @property
    def identity(self) -> tuple[str, ...]:
        """Return kind, namespace and name."""
        return (self.object_kind, self.namespace, self.name)

    @property
    def title(self) -> str:
        """Return kind/name, the kind in lower case."""
        return f"{self.object_kind.lower()}/{self.name}"

    def to_json(self) -> Json:
        """Return the reference with the keys of a Kubernetes object reference."""
        return {
            "apiVersion": self.api_version,
            "kind": self.object_kind,
            "namespace": self.namespace,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True)
class ObjectResult(Record):
    """What apply or delete did, or would do in a dry run: created, configured, unchanged, deleted or absent."""

    ref: Ref
    result: str
    dry_run: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """Return the identity of the object."""
        return self.ref.identity

    @property
    def title(self) -> str:
        """Return kind/name of the object."""
        return self.ref.title

    def to_json(self) -> Json:
        """Return the reference and the result in one object."""
        return {**self.ref.to_json(), "result": self.result, "dryRun": self.dry_run}

    @property
    def done(self) -> str:
        """Return the result in the words of kubectl."""
        return f"{self.result} (server dry run)" if self.dry_run else self.result


@dataclass(frozen=True, slots=True)
class BaselineModule(Record):
    """A module that a starting base would be given."""

    kind: ClassVar[str] = "module"
    name: str
    version: str
    url: str

    @property
    def identity(self) -> tuple[str, ...]:
        """Return name:version."""
        return (f"{self.name}:{self.version}",)


class ChangeType(Enum):
    """What happened to a watched item."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """One change of a watched item; a deleted one in its last state."""

    type: ChangeType
    item: R


def rfc3339(time: datetime) -> str:
    """Return a time in UTC with milliseconds and Z."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)
