"""What mctl shows: for each kind of item its name, its JSON document and the columns of its tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.text import age, rfc3339
from service.wording import clean

Json = dict[str, Any]
M = TypeVar("M", bound=Message)


def moment(item: Message, name: str) -> datetime | None:
    """Return the time in a field, None for one that is absent or impossible."""
    if not item.HasField(name):
        return None
    stamp: Timestamp = getattr(item, name)
    try:
        return datetime.fromtimestamp(stamp.seconds + stamp.nanos / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def fields(item: Message, besides: str = "") -> Json:
    """Return a message's fields, besides one, with camelCase keys; an absent time is null."""
    return {one.json_name: _plain(item, one.name) for one in item.DESCRIPTOR.fields if one.name != besides}


def _plain(item: Message, name: str) -> object:
    value = getattr(item, name)
    if isinstance(value, str | int):
        return value
    if isinstance(value, Timestamp):
        time = moment(item, name)
        return rfc3339(time) if time else None
    return dict(sorted(value.items())) if isinstance(value, Mapping) else list(value)


@dataclass(frozen=True, slots=True)
class ItemKind(Generic[M]):
    """How items of one kind are shown.

    name is that of one item, and of the field that has it in the messages of a watch. table and wide are the headers of
    the columns; cells has what is below those that are not the names of fields. key is what stays the same while an
    item changes; its last part is kind/name, as other commands take it. An item without a name is its whole text.
    """

    name: str
    table: str
    wide: str = ""
    cells: Mapping[str, Callable[[M], object]] = field(default_factory=dict)
    key: Callable[[M], tuple[str, ...]] = lambda item: (str(item),)
    document: Callable[[M], Json] = fields

    def title(self, item: M) -> str:
        """Return kind/name."""
        return self.key(item)[-1]

    def headers(self, *, wide: bool) -> list[str]:
        """Return the headers of a table."""
        return [*self.table.split(), *(self.wide.split() if wide else ())]

    def cell(self, item: M, header: str) -> str:
        """Return the cell below a header, on one line and harmless."""
        own = self.cells.get(header)
        value = own(item) if own else _plain(item, header.lower().replace("-", "_"))
        match value:
            case bool():
                return "yes" if value else "no"
            case list():
                return clean(",".join(value)) or "-"
            case None | "":
                return "-"
            case _:
                return clean(str(value))


def age_of(item: Message, name: str) -> str:
    """Return how long ago the time in a field was."""
    return age(moment(item, name), datetime.now(UTC))


_STATES = {number: name.removeprefix("V_NODE_STATE_").title() for name, number in pb.VNodeState.items() if number}
_MANAGEMENT = {number: name.removeprefix("MANAGEMENT_").lower() for name, number in pb.Management.items() if number}


def state(vnode: pb.VNode) -> str:
    """Return where a VNode is in its life; a number that is not known is shown, too."""
    return _STATES.get(vnode.state, "Unknown")


def _state(vnode: pb.VNode) -> str:
    """Return the state with that of scheduling, as kubectl shows it."""
    return f"{state(vnode)},SchedulingDisabled" if vnode.unschedulable else state(vnode)


def _modules(vnode: pb.VNode) -> int | None:
    return None if vnode.modules_unknown else vnode.modules


def _management(module: pb.Module) -> str:
    return _MANAGEMENT.get(module.management, "")


VNODE: ItemKind[pb.VNode] = ItemKind(
    name="vnode",
    table="NAME CLUSTER VERSION TUNNEL STATE READY MODULES OWNER AGE",
    wide="BASE BASE-NAME ADDRESS GATEWAY LAST-SEEN FENCE MESSAGE",
    cells={
        "CLUSTER": lambda v: v.cluster_name,
        "STATE": _state,
        "MODULES": _modules,
        "AGE": lambda v: age_of(v, "created"),
        "LAST-SEEN": lambda v: age_of(v, "last_seen"),
    },
    key=lambda v: (f"vnode/{v.name}",),
    document=lambda v: {**fields(v, "modules_unknown"), "state": state(v), "modules": _modules(v)},
)
MODULE: ItemKind[pb.Module] = ItemKind(
    name="module",
    table="VNODE NAME VERSION STATE READY MANAGEMENT POD REASON",
    wide="OPERATION RESTARTS URL MESSAGE",
    cells={"MANAGEMENT": _management, "POD": lambda m: f"{m.namespace}/{m.pod}" if m.pod else ""},
    key=lambda m: (m.vnode, m.namespace, m.pod, f"module/{m.name}:{m.version}"),
    document=lambda m: {**fields(m), "management": _management(m)},
)
GATEWAY: ItemKind[pb.Gateway] = ItemKind(
    name="gateway",
    table="ID TUNNEL UP WATCHED ORDERS VERSION AGE",
    wide="MESSAGE",
    cells={"UP": lambda g: g.tunnel_up, "AGE": lambda g: age_of(g, "connected_since")},
    key=lambda g: (f"gateway/{g.id}",),
)
REPLICA: ItemKind[pb.Replica] = ItemKind(
    name="replica", table="ID ADDRESS STATE VNODES TUNNELS SELF", key=lambda r: (f"replica/{r.id}",)
)
SHARD: ItemKind[pb.Shard] = ItemKind(
    name="shard", table="VNODE BASE OWNER STATE FENCE SINCE", key=lambda s: (f"shard/{s.vnode}",)
)
EVENT: ItemKind[pb.Event] = ItemKind(name="event", table="TIME TYPE REASON VNODE MODULE MESSAGE", wide="POD USER")
OPERATION: ItemKind[pb.ModuleOperation] = ItemKind(
    name="pod",
    table="VNODE NAMESPACE POD RESULT",
    wide="REASON MESSAGE",
    key=lambda o: (o.namespace, f"pod/{o.pod}"),
)
PAST_OPERATION: ItemKind[pb.PastOperation] = ItemKind(
    name="operation",
    table="TIME VERB OUTCOME TOOK REASON MESSAGE",
    cells={"TOOK": lambda o: f"{o.duration.seconds + o.duration.nanos / 1e9:.3f}s"},
)
BASELINE_MODULE: ItemKind[pb.BaselineModule] = ItemKind(
    name="module", table="NAME VERSION URL", key=lambda m: (f"module/{m.name}:{m.version}",)
)

OBJECT_KINDS = {"pod": ("v1", "Pod"), "deployment": ("apps/v1", "Deployment"), "daemonset": ("apps/v1", "DaemonSet")}


def object_ref(kind: str, namespace: str, name: str) -> pb.ObjectRef:
    """Return what names an object of one of OBJECT_KINDS."""
    api_version, api_kind = OBJECT_KINDS[kind]
    return pb.ObjectRef(api_version=api_version, kind=api_kind, namespace=namespace, name=name)


def object_title(ref: pb.ObjectRef) -> str:
    """Return kind/name of an object, the kind in lower case."""
    return f"{ref.kind.lower()}/{ref.name}"


def changed_object(*, dry_run: bool = False) -> ItemKind[pb.ApplyManifestResponse]:
    """Return the kind of what apply or delete did to objects, or would do in a dry run."""
    return ItemKind(
        name="object",
        table="OBJECT NAMESPACE RESULT",
        cells={
            "OBJECT": lambda o: object_title(o.object),
            "NAMESPACE": lambda o: o.object.namespace,
            "RESULT": lambda o: f"{o.result} (server dry run)" if dry_run else o.result,
        },
        key=lambda o: (o.object.namespace, object_title(o.object)),
        document=lambda o: {**fields(o.object), "result": o.result, "dryRun": dry_run},
    )


ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


class ItemChange(NamedTuple, Generic[M]):
    """One change of a watched item (ADDED, MODIFIED or DELETED); a deleted one in its last state."""

    type: str
    item: M
