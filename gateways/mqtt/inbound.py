"""What arrives from the broker: understood, checked and passed on, or refused with a reason.

A refused message has changed nothing. Everything is acknowledged to the broker once it is passed on or refused, except
for outcomes: those stay with the broker until the control plane has them.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import envelopes, payloads, topics
from gateways.arklet.envelopes import Envelope
from gateways.arklet.fields import Malformed
from gateways.arklet.names import InvalidName
from gateways.arklet.payloads import Negative
from gateways.arklet.topics import InvalidTopic, Word
from gateways.mqtt.baselines import Baselines
from gateways.mqtt.clocks import Clocks
from gateways.mqtt.leftovers import Leftovers
from gateways.mqtt.metrics import FOREIGN, MESSAGES, REFUSED
from gateways.mqtt.strays import Strays
from gateways.mqtt.subscriptions import Subscriptions
from gateways.mqtt.tunnel import MqttTunnel
from mqttclient.connection import MqttMessage
from mqttclient.receipts import Receipt
from service.limits import LogLimit, RateLimit

log = structlog.get_logger(__name__)

LIMIT = 2 << 20
"""Bytes of the largest message that is looked at."""
STALE = 10.0
"""Seconds by which news may be older than our clock; exactly that old is too old."""
LOG_EVERY = 60.0
"""Seconds between two log lines for one base and reason."""
LINES_PER_SECOND = 1.0
LINES_AT_ONCE = 20.0
"""Log lines for one reason, whichever bases they are about."""
_TAKEN = {word: MESSAGES.labels(word=word.value) for word in Word}
_ANSWERS: Mapping[Word, pb.Verb.ValueType] = {
    Word.HEALTH: pb.VERB_HEALTH,
    Word.SIMPLE_BIZ: pb.VERB_QUERY_MODULES,
    Word.BIZ: pb.VERB_QUERY_MODULES,
}
"""With the question. Received by every gateway; read by the one that asked or watches."""
_OUTCOMES = frozenset({Word.BIZ_OPERATION, Word.BATCH_RESPONSE})
"""Reported however old they are; who takes them settles their receipts."""


class MessageRefused(Exception):
    """A message is refused: reason for counting, text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Said:
    """Something that a base said; made_at is when, by our clock, at the earliest, None while that is not known."""

    base: str
    opened: Envelope
    made_at: float | None
    receipt: Receipt


@dataclass(slots=True)
class Inbound:
    """Takes the messages of bases."""

    env: str
    report: Callable[[pb.Report], bool]
    tunnel: MqttTunnel
    baselines: Baselines
    leftovers: Leftovers
    subscriptions: Subscriptions
    strays: Strays
    _clocks: Clocks = field(default_factory=Clocks, init=False)
    _lines: LogLimit = field(default_factory=lambda: LogLimit(LOG_EVERY), init=False)
    _rate: RateLimit = field(default_factory=lambda: RateLimit(LINES_PER_SECOND, LINES_AT_ONCE), init=False)

    def take(self, message: MqttMessage) -> None:
        """Take a message."""
        base, word = "", None
        try:
            if not (self.subscriptions.is_probe(message) or self.strays.is_stray(message)):
                base, word = self._source(message)
            if word is not None:
                self._take(base, word, message)
            if word not in _OUTCOMES:
                message.receipt.settle()
        except MessageRefused as refused:
            message.receipt.settle()
            self._refused(base, message, refused)

    def _take(self, base: str, word: Word, message: MqttMessage) -> None:
        """Pass a message on. Raises MessageRefused."""
        if message.retained:
            raise MessageRefused("retained", "a retained message says nothing about now")
        if len(message.payload) > LIMIT:
            raise MessageRefused("too_large", f"{len(message.payload)} bytes; at most {LIMIT} are looked at")
        if word in _ANSWERS and not self.tunnel.concerns(base):
            FOREIGN.labels(word=word.value).inc()
            return
        try:
            opened = envelopes.envelope(message.payload)
            if word not in _OUTCOMES:
                _fresh(opened)
            made_at = self._clocks.made_at(base, opened.published_at / 1000, _now())
            _TAKEN[word].inc()
            _TAKERS[word](self, _Said(base, opened, made_at, message.receipt))
        except Malformed as error:
            raise MessageRefused("malformed", f"{word.value}: {error}") from None
        except Negative as error:
            self.tunnel.answered(base, _ANSWERS[word], error)

    def _source(self, message: MqttMessage) -> tuple[str, Word | None]:
        """Return which base published what; no word if it is something that somebody sends to the base.

        That is seen while leftovers are looked for, or without shared subscriptions. Raises MessageRefused.
        """
        try:
            return topics.parse(message.topic, self.env)
        except (InvalidTopic, InvalidName) as error:
            base = topics.addressee(message.topic, self.env)
            if base is None:
                reason = "identity" if isinstance(error, InvalidName) else "topic"
                raise MessageRefused(reason, str(error)) from None
        self.leftovers.saw(message, base)
        if message.topic == topics.baseline(self.env, base) and not message.retained and message.payload:
            self.baselines.overheard(base)
        return base, None

    # News.

    def _heartbeat(self, said: _Said) -> None:
        report = envelopes.heartbeat(said.opened)
        _check_identity(said, report)
        self.leftovers.lives(said.base)
        if not self.report(report):
            raise MessageRefused("no_control_plane", "no control plane replica is connected")
        if report.heartbeat.state == pb.BASE_STATE_DEACTIVATED:
            self.tunnel.prober.leaving(said.base)
        else:
            self.tunnel.prober.heartbeat(said.base)

    def _baseline_query(self, said: _Said) -> None:
        query = payloads.baseline_query(said.opened.content)
        _check_identity(said, query)
        if not self.baselines.ask(query):
            raise MessageRefused("too_many_baselines", "too many baseline questions wait for an answer")

    # Answers.

    def _health(self, said: _Said) -> None:
        report = pb.Report(base_id=said.base, health=payloads.health(said.opened.content))
        self.tunnel.answered(said.base, pb.VERB_HEALTH, report)

    def _simple_modules(self, said: _Said) -> None:
        self._listed(said, payloads.simple_modules(said.opened.data))

    def _modules(self, said: _Said) -> None:
        """Take the long form of the module list, which old runtimes publish."""
        self._listed(said, payloads.modules(said.opened.content))

    def _listed(self, said: _Said, modules: pb.Modules) -> None:
        report = pb.Report(base_id=said.base, modules=modules)
        if not self.tunnel.listed(report, said.opened.published_at / 1000, said.made_at):
            raise MessageRefused("reordered", "a newer module list came before this one")

    # Outcomes.

    def _operation(self, said: _Said) -> None:
        operation = envelopes.operation(said.opened)
        if not self.tunnel.pending.answer(said.base, operation, said.made_at, said.receipt):
            # Another gateway's, or too late for an order of ours: the list shows what became of it.
            FOREIGN.labels(word=Word.BIZ_OPERATION.value).inc()
            self.tunnel.prober.hasten(said.base)
            said.receipt.settle()

    def _batch(self, said: _Said) -> None:
        result = envelopes.batch_reply(said.opened)
        if self.leftovers.is_echo(said.base, result):
            said.receipt.settle()
            return
        self.tunnel.outcomes.batch(pb.Report(base_id=said.base, batch_install_result=result), said.receipt)
        self.tunnel.prober.hasten(said.base)

    def _refused(self, base: str, message: MqttMessage, refused: MessageRefused) -> None:
        REFUSED.labels(reason=refused.reason).inc()
        # Thousands of bases can be refused for one reason at once, for example after an outage.
        if self._rate.admit(refused.reason, _now()):
            return
        held = self._lines.admit(f"{refused.reason} {base}", _now())
        if held is not None:
            topic = message.topic[:256]
            log.warning("message refused", reason=refused.reason, topic=topic, cause=str(refused), more=held)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _fresh(opened: Envelope) -> None:
    age = time.time() - opened.published_at / 1000
    if age >= STALE:
        text = f"stamped {age:.1f} s ago: the base's clock is slow by that, or the message waited in the broker"
        raise MessageRefused("stale", text)


def _check_identity(said: _Said, report: pb.Report) -> None:
    if report.base_id != said.base:
        text = f"says that it is {report.base_id[:64]!r} under the topic of {said.base!r}"
        raise MessageRefused("identity", text)


_TAKERS: Mapping[Word, Callable[[Inbound, _Said], None]] = {
    Word.HEART: Inbound._heartbeat,
    Word.QUERY_BASELINE: Inbound._baseline_query,
    Word.HEALTH: Inbound._health,
    Word.SIMPLE_BIZ: Inbound._simple_modules,
    Word.BIZ: Inbound._modules,
    Word.BIZ_OPERATION: Inbound._operation,
    Word.BATCH_RESPONSE: Inbound._batch,
}
