"""Generated messages to records: unknown enum numbers and impossible times are shown, not fatal."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl import records
from mctl.rollouts import Rollout, Trouble

_STATES = {
    pb.V_NODE_STATE_DISCOVERED: "Discovered",
    pb.V_NODE_STATE_CLAIMED: "Claimed",
    pb.V_NODE_STATE_READY: "Ready",
    pb.V_NODE_STATE_UNREACHABLE: "Unreachable",
    pb.V_NODE_STATE_DEAD: "Dead",
}

_CHANGES = {
    pb.CHANGE_TYPE_ADDED: records.ChangeType.ADDED,
    pb.CHANGE_TYPE_MODIFIED: records.ChangeType.MODIFIED,
    pb.CHANGE_TYPE_DELETED: records.ChangeType.DELETED,
}


_MANAGEMENT = {
    pb.MANAGEMENT_MANAGED: "managed",
    pb.MANAGEMENT_UNMANAGED: "unmanaged",
    pb.MANAGEMENT_ORPHAN: "orphan",
}


def change_type(value: pb.ChangeType.ValueType) -> records.ChangeType:
    """Return the kind of change; one that is not known counts as a modification."""
    return _CHANGES.get(value, records.ChangeType.MODIFIED)


def vnode(message: pb.VNode) -> records.VNode:
    """Return a VNode."""
    return records.VNode(
        name=message.name,
        base=message.base,
        cluster_name=message.cluster_name,
        version=message.version,
        tunnel=message.tunnel,
        state=_STATES.get(message.state, "Unknown"),
        ready=message.ready,
        owner=message.owner,
        modules=None if message.modules_unknown else message.modules,
        base_name=message.base_name,
        address=message.address,
        gateway=message.gateway,
        last_seen=_time(message.last_seen) if message.HasField("last_seen") else None,
        since=_time(message.since) if message.HasField("since") else None,
        message=message.message,
        fence=message.fence,
        labels=dict(sorted(message.labels.items())),
        created=_time(message.created) if message.HasField("created") else None,
    )


def module(message: pb.Module) -> records.Module:
    """Return a module."""
    return records.Module(
        vnode=message.vnode,
        name=message.name,
        version=message.version,
        state=message.state,
        ready=message.ready,
        namespace=message.namespace,
        pod=message.pod,
        reason=message.reason,
        message=message.message,
        url=message.url,
        restarts=message.restarts,
        operation=message.operation,
        management=_MANAGEMENT.get(message.management, ""),
    )


def gateway(message: pb.Gateway) -> records.Gateway:
    """Return a gateway."""
    return records.Gateway(
        id=message.id,
        tunnel=message.tunnel,
        version=message.version,
        tunnel_up=message.tunnel_up,
        watched=message.watched,
        orders=message.orders,
        connected_since=_time(message.connected_since) if message.HasField("connected_since") else None,
        message=message.message,
    )


def replica(message: pb.Replica) -> records.Replica:
    """Return a replica."""
    return records.Replica(
        id=message.id,
        address=message.address,
        vnodes=message.vnodes,
        self=bool(message.self),
        state=message.state,
        tunnels=tuple(message.tunnels),
    )


def shard(message: pb.Shard) -> records.Shard:
    """Return a VNode with its owner."""
    return records.Shard(
        vnode=message.vnode,
        base=message.base,
        owner=message.owner,
        state=message.state,
        fence=message.fence,
        since=_time(message.since) if message.HasField("since") else None,
    )


def event(message: pb.Event) -> records.Event:
    """Return an event."""
    return records.Event(
        time=_time(message.time) if message.HasField("time") else None,
        type=message.type,
        reason=message.reason,
        message=message.message,
        vnode=message.vnode,
        module=message.module,
        pod=message.pod,
    )


def operation(message: pb.ModuleOperation) -> records.Operation:
    """Return what was done for one Pod."""
    return records.Operation(
        message.vnode, message.namespace, message.pod, message.result, message.reason, message.message
    )


def past_operation(message: pb.PastOperation) -> records.PastOperation:
    """Return an order that ended."""
    return records.PastOperation(
        time=_time(message.time) if message.HasField("time") else None,
        vnode=message.vnode,
        name=message.name,
        version=message.version,
        verb=message.verb,
        outcome=message.outcome,
        seconds=message.duration.seconds + message.duration.nanos / 1e9,
        reason=message.reason,
        message=message.message,
    )


def rollout(message: pb.GetRolloutResponse) -> Rollout:
    """Return how far a rollout is."""
    return Rollout(
        observed=message.observed,
        desired=message.desired,
        updated=message.updated,
        available=message.available,
        old=message.old,
        done=message.done,
        failure=message.failure,
        troubles=tuple(Trouble(t.vnode, t.pod, t.module, t.reason, t.message) for t in message.troubles),
    )


def ref(message: pb.ObjectRef) -> records.Ref:
    """Return a reference to an object."""
    return records.Ref(message.api_version, message.kind, message.namespace, message.name)


def ref_message(value: records.Ref) -> pb.ObjectRef:
    """Return the message for a reference to an object."""
    return pb.ObjectRef(
        api_version=value.api_version, kind=value.object_kind, namespace=value.namespace, name=value.name
    )


def _time(stamp: Timestamp) -> datetime | None:
    try:
        return datetime.fromtimestamp(stamp.seconds + stamp.nanos / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return None
