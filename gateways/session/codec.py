"""Messages of a session to and from their protobuf form.

Encoding never fails. Decoding trusts nothing: what is missing or out of range is
refused with ``Malformed``, so that one bad message is one counted line in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, assert_never

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import facts
from gateways.session import messages as m

MAX_TIMEOUT = 24 * 3600.0
"""Seconds: the longest order or interval that makes sense."""
MIN_INTERVAL = 0.05
"""Seconds: the shortest polling interval that is kept to."""


class Malformed(ValueError):
    """A message from the control plane cannot be understood; the message says why."""


class MalformedOrder(Malformed):
    """An Order that can be answered, since it has an id, but not carried out."""

    def __init__(self, order_id: str, base: str, message: str) -> None:
        super().__init__(message)
        self.order_id = order_id
        self.base = base


_TUNNELS = {m.TunnelKind.HTTP: pb.TUNNEL_KIND_HTTP, m.TunnelKind.MQTT: pb.TUNNEL_KIND_MQTT}
_BASE_STATES = {
    facts.BaseState.UNSPECIFIED: pb.BASE_STATE_UNSPECIFIED,
    facts.BaseState.ACTIVATED: pb.BASE_STATE_ACTIVATED,
    facts.BaseState.DEACTIVATED: pb.BASE_STATE_DEACTIVATED,
    facts.BaseState.UNKNOWN: pb.BASE_STATE_UNKNOWN,
}
_MODULE_STATES = {state: pb.ModuleState.Value(f"MODULE_STATE_{state.name}") for state in facts.ModuleState}
_REPLY_CODES = {code: pb.ReplyCode.Value(f"REPLY_CODE_{code.name}") for code in facts.ReplyCode}
_CLIENT_CODES = {code: pb.ClientCode.Value(f"CLIENT_CODE_{code.name}") for code in facts.ClientCode}
_VERBS: dict[facts.Verb, pb.Verb.ValueType] = {
    verb: pb.Verb.Value(f"VERB_{verb.name}") for verb in facts.Verb if verb is not facts.Verb.HELP
}
_VERB_OF: Mapping[int, facts.Verb] = {value: verb for verb, value in _VERBS.items()}
_REFUSALS = {reason: pb.RefusalReason.Value(f"REFUSAL_REASON_{reason.name}") for reason in m.Refusal}
_POLL_FAILURES = {failure: pb.PollFailure.Value(f"POLL_FAILURE_{failure.name}") for failure in m.PollFailure}
_STRATEGY_OF: Mapping[int, facts.InstallStrategy] = {
    pb.INSTALL_STRATEGY_UNSPECIFIED: facts.InstallStrategy.DEFAULT,
    pb.INSTALL_STRATEGY_INSTALL_ONLY: facts.InstallStrategy.INSTALL_ONLY,
    pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL: facts.InstallStrategy.UNINSTALL_THEN_INSTALL,
}
_MAX_INT64 = 2**63 - 1
_MAX_MILLIS = 253_402_300_799_999
"""Last millisecond that a Timestamp can hold: end of the year 9999."""


def hello(message: m.Hello) -> pb.ConnectRequest:
    """Encode the first message of a stream."""
    return pb.ConnectRequest(
        hello=pb.Hello(
            gateway_id=message.gateway,
            instance_id=message.instance,
            tunnel=_TUNNELS[message.tunnel],
            env=message.env,
            version=message.version,
        )
    )


def goodbye(reason: str) -> pb.ConnectRequest:
    """Encode the last message of a stream."""
    return pb.ConnectRequest(goodbye=pb.Goodbye(reason=reason))


def reports(seq: int, batch: Iterable[m.Report]) -> pb.ConnectRequest:
    """Encode a batch of reports."""
    return pb.ConnectRequest(reports=pb.Reports(seq=seq, reports=[_report(report) for report in batch]))


def order_result(seq: int, result: m.OrderResult) -> pb.ConnectRequest:
    """Encode the outcome of an order."""
    encoded = pb.OrderResult(seq=seq, order_id=result.order_id, base_id=result.base)
    match result.outcome:
        case facts.Reply() as reply:
            encoded.reply.CopyFrom(_reply(reply))
        case facts.BatchReply() as batch:
            encoded.batch.CopyFrom(_batch(batch))
        case m.Refused(reason, message):
            encoded.refused.CopyFrom(pb.Refused(reason=_REFUSALS[reason], message=message))
        case m.OutcomeUnknown(message):
            encoded.unknown.CopyFrom(pb.Unknown(message=message))
        case _ as never:
            assert_never(never)
    return pb.ConnectRequest(order_result=encoded)


def _report(report: m.Report) -> pb.Report:
    encoded = pb.Report(base_id=report.base, observed_at=_timestamp(int(report.observed_at * 1000)))
    match report.fact:
        case facts.Heartbeat() as beat:
            encoded.heartbeat.CopyFrom(_heartbeat(beat))
        case facts.Health() as health:
            encoded.health.CopyFrom(_health(health))
        case m.ModuleList(modules, epoch, unchanged):
            encoded.modules.CopyFrom(
                pb.Modules(
                    complete=True,
                    unchanged=unchanged,
                    modules=[] if unchanged else [_module(module) for module in modules],
                    epoch=epoch,
                )
            )
        case m.FenceSeen(fence):
            encoded.fence_seen.CopyFrom(pb.FenceSeen(fence=fence))
        case m.PollFailed(verb, reason, epoch, failure):
            encoded.poll_failed.CopyFrom(
                pb.PollFailed(verb=_VERBS[verb], reason=reason, epoch=epoch, failure=_POLL_FAILURES[failure])
            )
        case m.BaselineQuery(query_id, name, version, cluster_name):
            encoded.baseline_query.CopyFrom(
                pb.BaselineQuery(query_id=query_id, name=name, version=version, cluster_name=cluster_name)
            )
        case facts.BatchReply() as batch:
            encoded.batch_install_result.CopyFrom(_batch(batch))
        case m.TunnelState(up, reason):
            encoded.tunnel_state.CopyFrom(pb.TunnelState(up=up, reason=reason))
        case _ as never:
            assert_never(never)
    return encoded


def _heartbeat(beat: facts.Heartbeat) -> pb.Heartbeat:
    return pb.Heartbeat(
        name=beat.metadata.name,
        version=beat.metadata.version,
        cluster_name=beat.metadata.cluster_name,
        host_name=beat.host_name,
        address=pb.Address(ip=beat.ip, port=max(beat.port, 0)),
        state=_BASE_STATES[beat.state],
    )


def _health(health: facts.Health) -> pb.Health:
    encoded = pb.Health(state=_BASE_STATES[health.state], java_version=health.java_version)
    if health.metaspace is not None:
        encoded.metaspace.CopyFrom(
            pb.Metaspace(
                used_bytes=_int64(health.metaspace.used),
                committed_bytes=_int64(health.metaspace.committed),
                max_bytes=_int64(health.metaspace.max),
            )
        )
    return encoded


def _module(module: facts.Module) -> pb.Module:
    return pb.Module(
        name=module.name,
        version=module.version,
        state=_MODULE_STATES[module.state],
        changed_at=None if module.changed_at is None else _timestamp(module.changed_at),
        reason=module.reason,
        message=module.message,
    )


def _reply(reply: facts.Reply) -> pb.Reply:
    return pb.Reply(
        code=_REPLY_CODES[reply.code],
        client_code=_CLIENT_CODES[reply.client_code],
        message=reply.message,
        stack_trace=reply.stack_trace,
        modules=[_module(module) for module in reply.modules],
    )


def _batch(batch: facts.BatchReply) -> pb.BatchInstallResult:
    return pb.BatchInstallResult(
        items=[pb.BatchInstallResult.Item(url=url, reply=_reply(reply)) for url, reply in batch.items],
        reply=_reply(batch.reply),
    )


def _int64(value: int) -> int:
    """Keep a number that a base said in the range that the contract can carry."""
    return min(max(value, -1), _MAX_INT64)


def _timestamp(millis: int) -> Timestamp:
    """Encode epoch milliseconds; a base's clock may say anything, so the value is kept in range."""
    millis = min(max(millis, 0), _MAX_MILLIS)
    return Timestamp(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000)


def downward(message: pb.ConnectResponse) -> m.Downward | None:
    """Decode a message of a replica; None for a kind that a newer replica may send. Raises Malformed."""
    decode = _DECODERS.get(message.WhichOneof("message") or "")
    return None if decode is None else decode(message)


def _welcome(message: pb.ConnectResponse) -> m.Welcome:
    welcome = message.welcome
    if not welcome.replica_id:
        raise Malformed("Welcome without replica_id")
    default = m.Limits()
    return m.Welcome(
        replica=welcome.replica_id,
        members=_members(welcome.members),
        limits=m.Limits(
            max_unacked=welcome.limits.max_unacked or default.max_unacked,
            max_batch=welcome.limits.max_batch or default.max_batch,
        ),
    )


def _members(members: Iterable[pb.Member]) -> tuple[m.Member, ...]:
    return tuple(m.Member(member.replica_id, member.address) for member in members if member.replica_id)


def _order(message: pb.ConnectResponse) -> m.Order:
    order = message.order
    if not order.order_id:
        raise Malformed("Order without order_id")
    try:
        return _readable_order(order)
    except Malformed as error:
        raise MalformedOrder(order.order_id, order.base_id, str(error)) from None


def _readable_order(order: pb.Order) -> m.Order:
    verb = _VERB_OF.get(order.verb)
    if verb is None:
        raise Malformed(f"Order with unknown verb {order.verb}")
    return m.Order(
        order_id=order.order_id,
        fence=order.fence,
        base=_base(order.base_id, "Order"),
        address=_address(order.address),
        verb=verb,
        modules=tuple(_order_module(module) for module in order.modules),
        timeout=_seconds(order.timeout, "Order.timeout", least=0.001),
    )


def _order_module(module: pb.OrderModule) -> facts.ModuleOrder:
    return facts.ModuleOrder(
        name=module.name,
        version=module.version,
        url=module.url,
        args=tuple(module.args),
        envs=tuple(sorted(module.envs.items())),
        strategy=_STRATEGY_OF.get(module.strategy, facts.InstallStrategy.DEFAULT),
    )


def _watch(message: pb.ConnectResponse) -> m.Watch:
    watch = message.watch
    return m.Watch(
        base=_base(watch.base_id, "Watch"),
        fence=watch.fence,
        address=_address(watch.address),
        epoch=watch.epoch,
        modules_interval=_seconds(watch.modules_interval, "Watch.modules_interval", least=MIN_INTERVAL),
        health_interval=_seconds(watch.health_interval, "Watch.health_interval", least=MIN_INTERVAL),
        silent_health_interval=_seconds(
            watch.silent_health_interval, "Watch.silent_health_interval", least=MIN_INTERVAL
        ),
    )


def _answer(message: pb.ConnectResponse) -> m.BaselineAnswer:
    answer = message.baseline_answer
    return m.BaselineAnswer(
        base=_base(answer.base_id, "BaselineAnswer"),
        query_id=answer.query_id,
        modules=tuple(facts.BaselineModule(ref.name, ref.version, ref.url) for ref in answer.modules),
    )


_T = TypeVar("_T", pb.Unwatch, pb.Claim, pb.Release)


def _owned(message: _T) -> tuple[str, int]:
    return _base(message.base_id, type(message).__name__), message.fence


_DECODERS: Mapping[str, Callable[[pb.ConnectResponse], m.Downward]] = {
    "welcome": _welcome,
    "reports_ack": lambda message: m.ReportsAck(message.reports_ack.seq),
    "order": _order,
    "watch": _watch,
    "unwatch": lambda message: m.Unwatch(*_owned(message.unwatch)),
    "claim": lambda message: m.Claim(*_owned(message.claim)),
    "release": lambda message: m.Release(*_owned(message.release)),
    "baseline_answer": _answer,
    "members": lambda message: m.Members(_members(message.members.members)),
    "drain": lambda message: m.Drain(message.drain.reason),
}


def _base(text: str, where: str) -> str:
    if not text:
        raise Malformed(f"{where} without base_id")
    return text


def _address(address: pb.Address) -> m.Address:
    return m.Address(ip=address.ip, port=address.port)


def _seconds(duration: Duration, where: str, *, least: float) -> float:
    seconds = duration.seconds + duration.nanos / 1e9
    if not 0 < seconds <= MAX_TIMEOUT:
        raise Malformed(f"{where} of {seconds:g} s is not in 0 to {MAX_TIMEOUT:g}")
    return max(seconds, least)
