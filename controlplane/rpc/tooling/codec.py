"""Tooling items to messages of the tooling API."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import Happening
from controlplane.app.gateways import Connected
from controlplane.app.tooling.installs import Change
from controlplane.app.tooling.operations import Management, ModuleItem, VNodeItem
from controlplane.app.tooling.shards import ReplicaItem, Shard
from controlplane.domain import contract
from controlplane.domain.base.history import Operation
from controlplane.domain.base.replies import Effect
from controlplane.domain.base.state import Phase
from controlplane.domain.workloads.rollout import Rollout, why

MOST_TROUBLES = 20

_STATES = {
    Phase.DISCOVERED: pb.V_NODE_STATE_DISCOVERED,
    Phase.CLAIMED: pb.V_NODE_STATE_CLAIMED,
    Phase.READY: pb.V_NODE_STATE_READY,
    Phase.UNREACHABLE: pb.V_NODE_STATE_UNREACHABLE,
    Phase.DEAD: pb.V_NODE_STATE_DEAD,
}


_MANAGEMENT = {
    Management.MANAGED: pb.MANAGEMENT_MANAGED,
    Management.UNMANAGED: pb.MANAGEMENT_UNMANAGED,
    Management.ORPHAN: pb.MANAGEMENT_ORPHAN,
}
_MANAGEMENT_READ = {number: management for management, number in _MANAGEMENT.items()}

_OUTCOMES = {Effect.ASK: "undecided"}


def management(value: pb.Management.ValueType) -> Management | None:
    """Read which modules are asked for; None means all."""
    return _MANAGEMENT_READ.get(value)


def vnode(item: VNodeItem, *, lively: bool = True) -> pb.VNode:
    """Write a VNode; without what changes with each sign of life unless lively."""
    labels = item.node.labels if item.node is not None else {}
    annotations = item.node.annotations if item.node is not None else {}
    message = pb.VNode(
        name=item.name,
        base=item.identity,
        cluster_name=labels.get(contract.BASE_CLUSTER_NAME, ""),
        version=labels.get(contract.BASE_VERSION, ""),
        base_name=labels.get(contract.BASE_NAME, ""),
        state=pb.V_NODE_STATE_READY if item.ready else pb.V_NODE_STATE_UNREACHABLE,
        ready=item.ready,
        owner=item.owner,
        tunnel=annotations.get(contract.ANNOTATION_TUNNEL, ""),
        message=item.why,
        fence=item.fence,
        labels=dict(labels),
        modules_unknown=not item.modules_known,
        created=_written(item.node.creation_timestamp) if item.node is not None else None,
    )
    base = item.base
    if base is None:
        return message
    profile = base.profile
    message.cluster_name, message.version, message.base_name = profile.cluster_name, profile.version, profile.name
    message.tunnel = profile.tunnel.value
    message.state = _STATES[base.phase]
    message.modules = len(base.modules.present)
    message.address = str(profile.address)
    message.fence = base.fence
    message.gateway = base.gateway
    message.since.CopyFrom(_timestamp(base.discovered_wall))
    if lively and base.signs.last_seen_wall:
        message.last_seen.CopyFrom(_timestamp(base.signs.last_seen_wall))
    return message


def module(item: ModuleItem) -> pb.Module:
    """Write a module."""
    message = pb.Module(
        vnode=item.vnode,
        name=item.key.name,
        version=item.key.version,
        state=_state(item),
        ready=item.ready,
        url=item.url,
        operation=item.operation.value if item.operation is not None else "",
        management=_MANAGEMENT[item.management],
    )
    if item.pod is not None:
        message.namespace, message.pod = item.pod.namespace, item.pod.name
    if item.status is not None:
        told = why(item.pod, item.status) if item.pod is not None else (item.status.reason, item.status.message)
        message.reason, message.message = told
        message.restarts = item.status.restart_count
    return message


def _state(item: ModuleItem) -> str:
    if item.state is not None:
        return item.state.name
    return "ABSENT" if item.known else "UNKNOWN"


def gateway(connected: Connected, *, watched: int, orders: int) -> pb.Gateway:
    """Write a gateway; watched is how many bases it polls for us."""
    info = connected.link.info
    return pb.Gateway(
        id=info.gateway_id,
        tunnel=info.tunnel.value,
        version=info.version,
        connected_since=_timestamp(info.connected_wall),
        tunnel_up=connected.tunnel_up,
        message=connected.tunnel_reason,
        watched=watched,
        orders=orders,
    )


def replica(item: ReplicaItem) -> pb.Replica:
    """Write a replica."""
    return pb.Replica(
        id=item.replica.id,
        address=item.replica.address,
        vnodes=item.vnodes,
        self=item.self,
        state=item.state,
        tunnels=sorted(item.replica.tunnels),
    )


def shard(item: Shard) -> pb.Shard:
    """Write a VNode with its owner."""
    return pb.Shard(
        vnode=item.vnode,
        base=item.base,
        owner=item.lease.holder,
        state=item.state,
        fence=max(item.lease.transitions, 0),
        since=_written(item.lease.acquire_time),
    )


def _timestamp(seconds: float) -> Timestamp:
    message = Timestamp()
    message.FromNanoseconds(round(seconds * 1_000_000_000))
    return message


def _written(text: str) -> Timestamp | None:
    """Read a time as the cluster writes it; None where it is none."""
    message = Timestamp()
    try:
        message.FromJsonString(text)
    except ValueError:
        return None
    return message


def event(happening: Happening) -> pb.Event:
    """Write an event."""
    return pb.Event(
        time=_timestamp(happening.wall),
        type=happening.type,
        reason=happening.reason,
        message=happening.message,
        vnode=happening.vnode,
        module=happening.module,
        pod=happening.pod,
    )


def past(vnode: str, operation: Operation) -> pb.PastOperation:
    """Write an operation that ended."""
    message = pb.PastOperation(
        vnode=vnode,
        name=operation.key.name,
        version=operation.key.version,
        verb=operation.verb.value,
        time=_timestamp(operation.wall),
        outcome=_OUTCOMES.get(operation.effect, operation.effect.value),
        reason=operation.reason,
        message=operation.message,
    )
    message.duration.FromMilliseconds(round(operation.seconds * 1000))
    return message


def rollout(found: Rollout) -> pb.GetRolloutResponse:
    """Write how far a rollout is."""
    return pb.GetRolloutResponse(
        observed=found.observed,
        desired=found.desired,
        updated=found.updated,
        available=found.available,
        old=found.old,
        done=found.done,
        failure=found.failure,
        troubles=[
            pb.RolloutTrouble(vnode=t.vnode, pod=t.pod, module=t.module, reason=t.reason, message=t.message)
            for t in found.troubles[:MOST_TROUBLES]
        ],
    )


def operation(change: Change) -> pb.ModuleOperation:
    """Write what was done to one Pod."""
    return pb.ModuleOperation(
        vnode=change.vnode,
        namespace=change.namespace,
        pod=change.pod,
        result=change.result.value,
        reason=change.reason,
        message=change.message,
    )
