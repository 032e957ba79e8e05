"""What gateways send, checked and made into facts. Nothing else of the control plane sees what was not checked.

What cannot be is refused with Unreadable, one report or result at a time: the stream and its neighbours in a batch are
not concerned. Enum values that are not known are none ("unspecified"), as newer gateways may have more of them. Texts
that only describe are cut and freed of control characters; what names something is refused when it has some or is too
long. Lengths are in characters.
"""

from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.domain import facts
from controlplane.domain.base.modules import EPOCHS_OF_A_TERM
from controlplane.domain.identity import BaseId, InvalidName, ModuleKey, OrderId, parse_base_id
from controlplane.domain.sharing import shared
from service import addresses
from service.masking import masked

LONGEST_NAME = 256
LONGEST_URL = 4096
LONGEST_REASON = 500
LONGEST_MESSAGE = 4096
LONGEST_TRACE = 16_384
MOST_MODULES = 4096
"""Modules of one list, or URLs of one batch; a base with more is not one that can be served."""
HIGHEST_FENCE = 2**31 - 2**20
"""leaseTransitions has 31 bits; a gateway that reports more than this is refused."""
HIGHEST_EPOCH = (HIGHEST_FENCE + 1) << EPOCHS_OF_A_TERM
MOST_CPUS = 65_535
MOST_CPU = 1e10
"""Seconds of CPU; more nanoseconds than these are no number of 64 bits."""
LATEST = 253_402_300_800
"""Seconds since the epoch at the end of the year 9999, where Timestamp ends."""

_E = TypeVar("_E", bound=Enum)


def _by_number(values: type[_E], prefix: str) -> dict[int, _E]:
    """Return the values of an enum by the numbers that those of their names have in the contract."""
    return {getattr(pb, f"{prefix}_{value.name}"): value for value in values}


_TUNNELS = _by_number(facts.TunnelKind, "TUNNEL_KIND")
_BASE_STATES = _by_number(facts.BaseState, "BASE_STATE")
_MODULE_STATES = _by_number(facts.ModuleState, "MODULE_STATE")
_POLL_FAILURES = _by_number(facts.PollFailure, "POLL_FAILURE")
_REPLY_CODES = {code.value: code for code in facts.ReplyCode}
_CLIENT_CODES = {code.value: code for code in facts.ClientCode}
_REFUSALS = {refusal.value: refusal for refusal in facts.Refusal}

_NEVER_A_HOST = addresses.parse_networks("0.0.0.0/8, 224.0.0.0/4, 240.0.0.0/4, ::/128, ff00::/8")
"""Unspecified, multicast, reserved. Which of the others a base may have is the gateways' to judge, who call them."""
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ")
_ALL_BUT_LAYOUT = {code: blank for code, blank in _CONTROLS.items() if chr(code) not in "\t\n"}


class Unreadable(ValueError):
    """A message is refused: reason for counting, of a fixed set, and a text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def hello(message: pb.Hello, *, connected_wall: float) -> tuple[str, facts.GatewayInfo]:
    """Read a Hello: the environment that the gateway serves, and who it is; raises Unreadable."""
    tunnel = _TUNNELS.get(message.tunnel)
    if tunnel is None:
        raise Unreadable("hello", "Hello needs a tunnel that is known")
    return _words(message.env), facts.GatewayInfo(
        gateway_id=_name(message.gateway_id, "gateway_id"),
        instance=_name(message.instance_id, "instance_id"),
        tunnel=tunnel,
        version=_words(message.version),
        connected_wall=connected_wall,
    )


def report(
    message: pb.Report, *, env: str, tunnel: facts.TunnelKind
) -> tuple[BaseId, facts.Fact | facts.OrderResult] | facts.TunnelState:
    """Read a report of a gateway of this tunnel; raises Unreadable."""
    kind = message.WhichOneof("fact")
    if kind is None:
        raise Unreadable("unknown-report", "a report without a fact that is known")
    if kind == "tunnel_state":
        return facts.TunnelState(message.tunnel_state.up, people(message.tunnel_state.reason))
    return _base(message.base_id, env), _fact(message, kind, tunnel)


def _fact(message: pb.Report, kind: str, tunnel: facts.TunnelKind) -> facts.Fact | facts.OrderResult:
    match kind:
        case "heartbeat":
            heartbeat = message.heartbeat
            return facts.Heartbeat(
                name=_words(heartbeat.name),
                version=_words(heartbeat.version),
                cluster_name=_words(heartbeat.cluster_name),
                host_name=_words(heartbeat.host_name),
                address=_address(heartbeat.address, tunnel),
                state=_BASE_STATES.get(heartbeat.state, facts.BaseState.UNSPECIFIED),
                way=_way(tunnel, heartbeat.peer),
            )
        case "health":
            health = message.health
            return facts.Health(
                state=_BASE_STATES.get(health.state, facts.BaseState.UNSPECIFIED),
                metaspace=_metaspace(health.metaspace) if health.HasField("metaspace") else None,
                java_version=_words(health.java_version),
                cpus=_at_most(health.cpus, MOST_CPUS, "cpus"),
                heap=_heap(health.usage),
                cpu=_cpu(health.usage),
            )
        case "modules":
            modules = message.modules
            return facts.ModuleList(
                modules=_modules(modules.modules),
                complete=modules.complete,
                unchanged=modules.unchanged,
                epoch=_at_most(modules.epoch, HIGHEST_EPOCH, "epoch"),
            )
        case "baseline_query":
            query = message.baseline_query
            return facts.BaselineQuery(
                query_id=_name(query.query_id, "query_id"),
                name=_words(query.name),
                version=_words(query.version),
                cluster_name=_words(query.cluster_name),
                way=_way(tunnel, query.peer),
            )
        case "batch_install_result":
            return _batch(message.batch_install_result)
        case "fence_seen":
            return facts.FenceSeen(_at_most(message.fence_seen.fence, HIGHEST_FENCE, "fence"))
        case "poll_failed":
            failed = message.poll_failed
            return facts.PollFailed(
                reason=people(failed.reason, LONGEST_REASON),
                modules=failed.verb != pb.VERB_HEALTH,
                failure=_POLL_FAILURES.get(failed.failure, facts.PollFailure.UNSPECIFIED),
            )
        case "order_result":
            return _order_result(message.order_result)
        case _:
            raise Unreadable("unknown-report", f"a report of {kind}, which is not read here")


def _order_result(message: pb.OrderResult) -> facts.OrderResult:
    """Read the outcome of an order. One that cannot be read is unknown: there was one, and the base knows which."""
    order = _name(message.order_id, "order_id")
    try:
        outcome = _outcome(message)
    except Unreadable as error:
        outcome = facts.OutcomeUnknown(f"the gateway's result cannot be read: {error}")
    return facts.OrderResult(OrderId(order), outcome)


def _address(message: pb.Address, tunnel: facts.TunnelKind) -> facts.Address:
    """Read where a base is. Over MQTT it is for display only: a base that does not know its address is served, too."""
    try:
        port = _at_most(message.port, 65535, "port")
        address = facts.Address(_ip(message.ip), port)
    except Unreadable:
        if tunnel is facts.TunnelKind.MQTT:
            return facts.Address("", 0)
        raise
    if not port and tunnel is facts.TunnelKind.HTTP:
        raise Unreadable("address", "a base without a port cannot be called over HTTP")
    return address


def _way(tunnel: facts.TunnelKind, peer: str) -> facts.Way:
    return facts.Way(tunnel, _ip(peer) if peer else "")


def _ip(text: str) -> str:
    """Return an IP address as it is written canonically; one of IPv4 that is written as IPv6 as IPv4."""
    try:
        address = addresses.parse(text)
    except addresses.AddressRefused:
        raise Unreadable("address", f"{_shown(text)} is no IP address") from None
    if any(address in network for network in _NEVER_A_HOST):
        raise Unreadable("address", f"{address} is no address of a host")
    return str(address)


def _metaspace(message: pb.Metaspace) -> facts.Metaspace:
    if message.used_bytes < 0 or message.committed_bytes < 0 or message.max_bytes < -1:
        raise Unreadable("number", "metaspace: a negative number of bytes")
    return facts.Metaspace(message.used_bytes, message.max_bytes)


def _heap(message: pb.Usage) -> int | None:
    if message.heap_bytes < 0:
        raise Unreadable("number", "heap: a negative number of bytes")
    return message.heap_bytes if message.HasField("heap_bytes") else None


def _cpu(message: pb.Usage) -> float | None:
    if not 0 <= message.cpu_seconds <= MOST_CPU:
        raise Unreadable("number", "cpu: no number of seconds")
    return message.cpu_seconds if message.HasField("cpu_seconds") else None


def _batch(message: pb.BatchInstallResult) -> facts.BatchInstalled:
    _few(len(message.items), "items of a batch")
    items = tuple((_name(item.url, "url", LONGEST_URL), _reply(item.reply)) for item in message.items)
    return facts.BatchInstalled(_reply(message.reply), items)


def _outcome(message: pb.OrderResult) -> facts.Outcome:
    match message.WhichOneof("outcome"):
        case "reply":
            return _reply(message.reply)
        case "refused":
            reason = _REFUSALS.get(message.refused.reason, facts.Refusal.UNSPECIFIED)
            return facts.Refused(reason, people(message.refused.message))
        case "batch":
            return _batch(message.batch)
        case "unknown":
            return facts.OutcomeUnknown(people(message.unknown.message))
        case _:
            return facts.OutcomeUnknown("the gateway reported no outcome")


def _reply(message: pb.Reply) -> facts.Reply:
    return facts.Reply(
        code=_REPLY_CODES.get(message.code, facts.ReplyCode.UNSPECIFIED),
        client_code=_CLIENT_CODES.get(message.client_code, facts.ClientCode.UNSPECIFIED),
        message=people(message.message),
        stack_trace=people(message.stack_trace, LONGEST_TRACE),
        modules=_modules(message.modules),
    )


def _modules(messages: Iterable[pb.Module]) -> tuple[facts.Module, ...]:
    found = tuple(messages)
    _few(len(found), "modules")
    return tuple(_module(message) for message in found)


def _module(message: pb.Module) -> facts.Module:
    return facts.Module(
        key=shared(ModuleKey(_name(message.name, "module name"), _name(message.version, "module version"))),
        state=_MODULE_STATES.get(message.state, facts.ModuleState.UNSPECIFIED),
        changed_at=_millis(message.changed_at) if message.HasField("changed_at") else None,
        message=people(message.message),
    )


def _millis(message: Timestamp) -> int:
    if not (0 <= message.seconds < LATEST and 0 <= message.nanos < 1_000_000_000):
        raise Unreadable(
            "time", f"changed_at: {message.seconds} s and {message.nanos} ns are no time from 1970 to 9999"
        )
    return message.seconds * 1000 + message.nanos // 1_000_000


def _base(text: str, env: str) -> BaseId:
    try:
        return parse_base_id(text, env)
    except InvalidName as error:
        raise Unreadable("identity", str(error)) from None


def _name(text: str, what: str, longest: int = LONGEST_NAME) -> str:
    if not text:
        raise Unreadable("text", f"{what} is missing")
    if len(text) > longest:
        raise Unreadable("text", f"{what} has {len(text)} characters, which is more than {longest}")
    if text.translate(_CONTROLS) != text:
        raise Unreadable("text", f"{what} {_shown(text)} has control characters")
    return text


def _words(text: str) -> str:
    return text[:LONGEST_NAME].translate(_CONTROLS)


def people(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return a text for people, cut, without secrets and control characters other than tab and line feed.

    What a base says of a module may have the module's URL in it, with user, password and signature. So texts come in
    masked, and whatever is made of them (statuses of Pods, Events, answers to tools, hooks) is without secrets.
    """
    # Masked before it is cut: of half a URL nobody sees what is secret.
    return masked(text[: 2 * longest])[:longest].translate(_ALL_BUT_LAYOUT)


def _at_most(number: int, most: int, what: str) -> int:
    if number > most:
        raise Unreadable("number", f"{what} {number} is more than {most}")
    return number


def _few(number: int, what: str) -> None:
    if number > MOST_MODULES:
        raise Unreadable("count", f"{number} {what}, which is more than {MOST_MODULES}")


def _shown(text: str) -> str:
    text = masked(text)
    return repr(text if len(text) <= 64 else text[:61] + "...")
