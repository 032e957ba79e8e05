"""What this replica knows, as messages of the tooling API."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import starmap

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.app.events import Happening
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.ports import Transient
from controlplane.app.roster import Roster
from controlplane.app.tooling.installs import Failure, Outcome, Result
from controlplane.app.tooling.refusals import RequestError
from controlplane.domain import contract
from controlplane.domain.base.modules import NO_MODULES, Modules
from controlplane.domain.base.outcomes import Operation
from controlplane.domain.base.replies import Effect
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.base.usage import Usage
from controlplane.domain.facts import ModuleState
from controlplane.domain.identity import BaseId, ModuleKey
from controlplane.domain.objects import Condition, ContainerStatus, Lease, Node, Pod
from controlplane.domain.workloads.release import Progress
from controlplane.domain.workloads.rollout import Rollout, why
from service.masking import masked

MOST_TROUBLES = 20

_STATES = {phase: pb.VNodeState.Value(f"V_NODE_STATE_{phase.name}") for phase in Phase}


def last_seen(base: Base) -> Timestamp | None:
    """Write when a base was last seen, None if it was not yet."""
    return _timestamp(base.signs.last_seen_wall) if base.signs.last_seen_wall else None


def usage(used: Usage) -> rpb.BaseUsage:
    """Write what a base uses."""
    return rpb.BaseUsage(
        at=_timestamp(used.at),
        metaspace_bytes=used.metaspace,
        own_bytes=used.own,
        heap_bytes=used.heap,
        cpu_seconds=used.cpu,
        share_seconds=used.share,
    )


def used(message: rpb.BaseUsage) -> Usage:
    """Read what a base uses."""
    return Usage(
        message.at.seconds + message.at.nanos / 1e9,
        message.metaspace_bytes,
        message.own_bytes if message.HasField("own_bytes") else None,
        message.heap_bytes if message.HasField("heap_bytes") else None,
        message.cpu_seconds if message.HasField("cpu_seconds") else None,
        message.share_seconds if message.HasField("share_seconds") else None,
    )


def vnode(name: str, identity: BaseId, node: Node | None, base: Base | None, lease: Lease | None) -> pb.VNode:
    """Write a VNode, without last_seen; base is None unless it is ours."""
    node, lease = node or Node(name, "", ""), lease or Lease("", name, "")
    labels, condition = node.labels, Condition.of(node.status.conditions, "Ready")
    ready = condition.status == "True"
    message = pb.VNode(
        name=name,
        base=identity,
        labels=dict(labels),
        owner=lease.holder,
        created=written(node.creation_timestamp),
        unschedulable=node.unschedulable,
    )
    if base is None:
        message.cluster_name = labels.get(contract.BASE_CLUSTER_NAME, "")
        message.version = labels.get(contract.BASE_VERSION, "")
        message.base_name = labels.get(contract.BASE_NAME, "")
        message.tunnel = node.annotations.get(contract.ANNOTATION_TUNNEL, "")
        message.state = pb.V_NODE_STATE_READY if ready else pb.V_NODE_STATE_UNREACHABLE
        message.ready = ready
        message.message = condition.message if not ready else ""
        message.fence = max(lease.transitions, 0)
        message.modules_unknown = True
        return message
    profile = base.profile
    message.cluster_name, message.version, message.base_name = profile.cluster_name, profile.version, profile.name
    message.tunnel, message.address = profile.tunnel.value, str(profile.address)
    message.state, message.ready = _STATES[base.phase], ready and base.phase is Phase.READY
    message.message, message.fence, message.gateway = base.why, base.fence, base.gateway
    message.modules, message.modules_unknown = len(base.modules.present), not base.modules.listed
    message.since.CopyFrom(_timestamp(base.discovered_wall))
    return message


def modules(vnode: str, base: Base | None, pods: Iterable[Pod]) -> list[pb.Module]:
    """Write the modules of a VNode by name, version and Pod, their URLs masked; base is None unless it is ours."""
    known = base.modules if base is not None else NO_MODULES
    found, covered = [], set[ModuleKey]()
    for pod in pods:
        statuses = {status.name: status for status in pod.status.containers}
        for container in pod.containers:
            key = container.key
            covered.add(key)
            status = statuses.get(container.name) or ContainerStatus(container.name, "waiting", reason="Pending")
            message = _module(vnode, key, known)
            message.management, message.ready = pb.MANAGEMENT_MANAGED, status.ready
            message.namespace, message.pod, message.url = pod.namespace, pod.name, masked(container.url)
            message.reason, message.message = why(pod, status)
            message.restarts = status.restart_count
            found.append(message)
    for key, module in known.present.items():
        if key not in covered:
            message = _module(vnode, key, known)
            message.management = pb.MANAGEMENT_ORPHAN if key in known.owned else pb.MANAGEMENT_UNMANAGED
            message.ready = module.state is ModuleState.ACTIVATED
            found.append(message)
    return sorted(found, key=module_key)


def module_key(module: pb.Module) -> str:
    """Return what orders modules and names one."""
    pod = f"{module.namespace}/{module.pod}" if module.pod else ""
    return "\n".join((module.vnode, module.name, module.version, pod))


def _module(vnode: str, key: ModuleKey, known: Modules) -> pb.Module:
    flight, present = known.in_flight.get(key.name), known.present.get(key)
    absent = "ABSENT" if known.listed else "UNKNOWN"
    return pb.Module(
        vnode=vnode,
        name=key.name,
        version=key.version,
        state=present.state.name if present is not None else absent,
        operation=flight.verb.value if flight is not None and flight.spec.key == key else "",
    )


def gateways(directory: GatewayDirectory, roster: Roster) -> list[pb.Gateway]:
    """Write the gateways that are connected to this replica."""
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
        for connected in directory.all()
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


def _timestamp(seconds: float) -> Timestamp:
    message = Timestamp()
    message.FromNanoseconds(round(seconds * 1_000_000_000))
    return message


def written(text: str) -> Timestamp | None:
    """Return a time as the cluster writes it; None where it is not one."""
    message = Timestamp()
    try:
        message.FromDatetime(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None
    return message


def event(happening: Happening) -> pb.Event:
    """Write an event."""
    return pb.Event(
        time=_timestamp(happening.wall),
        type=happening.remark.type,
        reason=happening.remark.reason,
        message=happening.remark.message,
        vnode=happening.vnode,
        module=happening.module,
        pod=happening.pod,
        user=happening.user,
    )


def past(vnode: str, operation: Operation) -> pb.PastOperation:
    """Write an operation that ended."""
    ended, meaning = operation.ended, operation.ended.meaning
    message = pb.PastOperation(
        vnode=vnode,
        name=ended.spec.key.name,
        version=ended.spec.key.version,
        verb=ended.verb.value,
        time=_timestamp(operation.wall),
        outcome="undecided" if meaning.effect is Effect.ASK else meaning.effect.value,
        reason=meaning.reason,
        message=meaning.message,
    )
    message.duration.FromMilliseconds(round(ended.seconds * 1000))
    return message


def rollout(found: Rollout, unreachable: Sequence[str] = (), batches: Progress | None = None) -> pb.GetRolloutResponse:
    """Write how far a rollout is, and its release in batches; unreachable are replicas that could not be asked."""
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
        unreachable_replicas=unreachable,
        batches=pb.BatchedRelease(**asdict(batches)) if batches is not None else None,
    )


def operations(outcomes: Sequence[Outcome]) -> list[pb.ModuleOperation]:
    """Write what became of Pods; raises the failure of the only one."""
    if len(outcomes) == 1 and isinstance(outcomes[0][1], Exception):
        raise outcomes[0][1]
    return list(starmap(_operation, outcomes))


def _operation(pod: Pod, end: Result | Failure) -> pb.ModuleOperation:
    """Write what became of one Pod; reason (one PascalCase word) and message say why it failed."""
    message = pb.ModuleOperation(vnode=pod.node_name, namespace=pod.namespace, pod=pod.name, result="failed")
    match end:
        case Result():
            message.result = end.value
        case RequestError():
            message.reason, message.message = "NotAllowed", masked(str(end))
        case _:
            message.reason = "Unavailable" if type(end) is Transient else type(end).__name__
            message.message = masked(str(end))
    return message
