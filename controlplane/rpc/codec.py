"""Tunnel contract messages to facts and back; generated messages go no further inward."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.domain.facts import (
    Address,
    BaselineQuery,
    BaseState,
    BatchInstalled,
    ClientCode,
    Health,
    Heartbeat,
    InstallStrategy,
    Metaspace,
    Module,
    ModuleList,
    ModuleState,
    Order,
    OrderResult,
    Outcome,
    OutcomeUnknown,
    PollFailed,
    PollFailure,
    Refusal,
    Refused,
    Reply,
    ReplyCode,
    TunnelKind,
    Verb,
    Watch,
)
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.domain.objects import Container
from controlplane.domain.replicas import Replica

_TUNNELS = {pb.TUNNEL_KIND_HTTP: TunnelKind.HTTP, pb.TUNNEL_KIND_MQTT: TunnelKind.MQTT}
_BASE_STATES = {
    pb.BASE_STATE_ACTIVATED: BaseState.ACTIVATED,
    pb.BASE_STATE_DEACTIVATED: BaseState.DEACTIVATED,
    pb.BASE_STATE_UNKNOWN: BaseState.UNKNOWN,
}
_MODULE_STATES = {
    pb.MODULE_STATE_RESOLVED: ModuleState.RESOLVED,
    pb.MODULE_STATE_ACTIVATED: ModuleState.ACTIVATED,
    pb.MODULE_STATE_DEACTIVATED: ModuleState.DEACTIVATED,
    pb.MODULE_STATE_BROKEN: ModuleState.BROKEN,
    pb.MODULE_STATE_STOPPED: ModuleState.STOPPED,
    pb.MODULE_STATE_UNRESOLVED: ModuleState.UNRESOLVED,
}
_POLL_FAILURES = {
    pb.POLL_FAILURE_NOT_CONNECTED: PollFailure.NOT_CONNECTED,
    pb.POLL_FAILURE_NO_ANSWER: PollFailure.NO_ANSWER,
    pb.POLL_FAILURE_NOT_A_BASE: PollFailure.NOT_A_BASE,
    pb.POLL_FAILURE_NEGATIVE: PollFailure.NEGATIVE,
}
_VERBS = {Verb.INSTALL: pb.VERB_INSTALL, Verb.UNINSTALL: pb.VERB_UNINSTALL, Verb.SWITCH: pb.VERB_SWITCH}
_STRATEGIES = {
    InstallStrategy.DEFAULT: pb.INSTALL_STRATEGY_UNSPECIFIED,
    InstallStrategy.INSTALL_ONLY: pb.INSTALL_STRATEGY_INSTALL_ONLY,
    InstallStrategy.UNINSTALL_THEN_INSTALL: pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL,
    InstallStrategy.FORCE: pb.INSTALL_STRATEGY_UNSPECIFIED,
}

REASON_LIMIT = 500
"""Characters of the cause of a failed poll that are shown."""
MOST_MODULES = 4096
"""Modules of one list that are looked at; a base with more is not one that we can serve."""


def tunnel_kind(kind: pb.TunnelKind.ValueType) -> TunnelKind | None:
    """Return the tunnel kind, None for one that is not known."""
    return _TUNNELS.get(kind)


def heartbeat(message: pb.Heartbeat) -> Heartbeat:
    """Read a Heartbeat."""
    return Heartbeat(
        name=message.name,
        version=message.version,
        cluster_name=message.cluster_name,
        host_name=message.host_name,
        address=Address(message.address.ip, min(message.address.port, 65535)),
        state=_BASE_STATES.get(message.state, BaseState.UNSPECIFIED),
    )


def health(message: pb.Health) -> Health:
    """Read a Health."""
    space = message.metaspace
    return Health(
        state=_BASE_STATES.get(message.state, BaseState.UNSPECIFIED),
        metaspace=Metaspace(space.used_bytes, space.committed_bytes, space.max_bytes)
        if message.HasField("metaspace")
        else None,
        java_version=message.java_version,
    )


def modules(message: pb.Modules) -> ModuleList:
    """Read a Modules; a list too long to be true counts as partial, so that nothing is concluded from it."""
    return ModuleList(
        modules=_modules(message.modules[:MOST_MODULES]),
        complete=message.complete and len(message.modules) <= MOST_MODULES,
        unchanged=message.unchanged,
        epoch=message.epoch,
    )


def poll_failed(message: pb.PollFailed) -> PollFailed:
    """Read a PollFailed."""
    return PollFailed(
        reason=message.reason[:REASON_LIMIT],
        modules=message.verb != pb.VERB_HEALTH,
        failure=_POLL_FAILURES.get(message.failure, PollFailure.UNSPECIFIED),
    )


def baseline_query(message: pb.BaselineQuery) -> BaselineQuery:
    """Read a BaselineQuery."""
    return BaselineQuery(message.query_id, message.name, message.version, message.cluster_name)


def batch_installed(message: pb.BatchInstallResult) -> BatchInstalled:
    """Read a BatchInstallResult."""
    items = message.items[:MOST_MODULES]
    return BatchInstalled(_reply(message.reply), tuple((item.url, _reply(item.reply)) for item in items))


def order_result(message: pb.OrderResult) -> OrderResult:
    """Read an OrderResult; one without an outcome that is known leaves it to the base."""
    return OrderResult(OrderId(message.order_id), _outcome(message))


def _outcome(message: pb.OrderResult) -> Outcome:
    match message.WhichOneof("outcome"):
        case "reply":
            return _reply(message.reply)
        case "refused":
            reason = next((r for r in Refusal if r.value == message.refused.reason), Refusal.UNSPECIFIED)
            return Refused(reason, message.refused.message)
        case "batch":
            return batch_installed(message.batch)
        case "unknown":
            return OutcomeUnknown(message.unknown.message)
        case _:
            return OutcomeUnknown("the gateway told no outcome")


def _reply(message: pb.Reply) -> Reply:
    return Reply(
        code=next((c for c in ReplyCode if c.value == message.code), ReplyCode.UNSPECIFIED),
        client_code=next((c for c in ClientCode if c.value == message.client_code), ClientCode.UNSPECIFIED),
        message=message.message,
        stack_trace=message.stack_trace,
        modules=_modules(message.modules[:MOST_MODULES]),
    )


def _modules(messages: Iterable[pb.Module]) -> tuple[Module, ...]:
    return tuple(
        Module(
            key=ModuleKey(m.name, m.version),
            state=_MODULE_STATES.get(m.state, ModuleState.UNSPECIFIED),
            changed_at=m.changed_at.ToMilliseconds() if m.HasField("changed_at") else None,
            reason=m.reason,
            message=m.message,
        )
        for m in messages
        if m.name and m.version
    )


def order(value: Order) -> pb.Order:
    """Write an Order."""
    return pb.Order(
        order_id=value.order_id,
        fence=value.fence,
        base_id=value.base,
        address=_address(value.address),
        verb=pb.VERB_BATCH_INSTALL if len(value.modules) > 1 else _VERBS[value.verb],
        modules=[
            pb.OrderModule(
                name=module.key.name,
                version=module.key.version,
                url=module.url,
                args=module.args,
                envs=dict(module.envs),
                strategy=_STRATEGIES[module.strategy],
            )
            for module in value.modules
        ],
        timeout=duration(value.timeout),
    )


def watch(value: Watch) -> pb.Watch:
    """Write a Watch."""
    return pb.Watch(
        base_id=value.base,
        fence=value.fence,
        address=_address(value.address),
        epoch=value.epoch,
        modules_interval=duration(value.modules_interval),
        health_interval=duration(value.health_interval),
        silent_health_interval=duration(value.silent_health_interval),
    )


def module_ref(container: Container) -> pb.ModuleRef:
    """Write one module of a baseline."""
    return pb.ModuleRef(name=container.name, version=container.version, url=container.image)


def _address(value: Address) -> pb.Address:
    return pb.Address(ip=value.ip, port=value.port)


def duration(seconds: float) -> Duration:
    """Write seconds."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1_000_000_000))
    return message


def timestamp(seconds: float) -> Timestamp:
    """Write seconds since the epoch."""
    message = Timestamp()
    message.FromNanoseconds(round(seconds * 1_000_000_000))
    return message


def members(replicas: Iterable[Replica]) -> list[pb.Member]:
    """Encode the replicas that live."""
    return [pb.Member(replica_id=replica.id, address=replica.address) for replica in replicas]
