"""Tooling items to messages of the tooling API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import Happening
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.roster import Roster
from controlplane.app.tooling.installs import Change
from controlplane.app.tooling.operations import Management, ModuleItem, VNodeItem
from controlplane.app.tooling.shards import ReplicaItem, Shard
from controlplane.domain import contract
from controlplane.domain.base.history import Operation
from controlplane.domain.base.replies import Effect
from controlplane.domain.base.state import Base, Phase
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

_OUTCOMES = {Effect.ASK: "undecided"}


def last_seen(base: Base) -> Timestamp | None:
    """Write when a base was last seen, None if it was not yet."""
    return _timestamp(base.signs.last_seen_wall) if base.signs.last_seen_wall else None


def vnode(item: VNodeItem) -> pb.VNode:
    """Write a VNode, without last_seen."""
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


def gateways(directory: GatewayDirectory, roster: Roster) -> list[pb.Gateway]:
    """Write the gateways that are connected to this replica, by id."""
    orders = Counter(flight.gateway for base in roster.bases() for flight in base.modules.in_flight.values())
    return [
        pb.Gateway(
            id=info.gateway_id,
            tunnel=info.tunnel.value,
            version=info.version,
            connected_since=_timestamp(info.connected_wall),
            tunnel_up=connected.tunnel_up,
            message=connected.tunnel_reason,
            watched=roster.load[info.gateway_id],
            orders=orders[info.key],
        )
        for connected in sorted(directory.all(), key=lambda each: each.link.info.gateway_id)
        for info in (connected.link.info,)
    ]


def merged_gateways(found: Iterable[pb.Gateway]) -> list[pb.Gateway]:
    """Return each gateway once, by id: what it does for several replicas is summed."""
    merged: dict[str, pb.Gateway] = {}
    for gateway in found:
        known = merged.get(gateway.id)
        if known is None:
            merged[gateway.id] = known = pb.Gateway()
            known.CopyFrom(gateway)
            continue
        known.watched += gateway.watched
        known.orders += gateway.orders
        if gateway.tunnel_up and not known.tunnel_up:
            known.tunnel_up, known.message = True, gateway.message
        if gateway.connected_since.ToNanoseconds() < known.connected_since.ToNanoseconds():
            known.connected_since.CopyFrom(gateway.connected_since)
    return [merged[name] for name in sorted(merged)]


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
