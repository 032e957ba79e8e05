"""What arrives from the broker: understood, checked and passed on, or refused with a reason.

A refused message has changed nothing. Everything is acknowledged to the broker once
it is passed on or refused, except for outcomes: those stay with the broker until the
control plane has them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from gateways.arklet import envelopes, topics
from gateways.arklet.envelopes import Envelope
from gateways.arklet.facts import BaseState, BatchReply, Metadata
from gateways.arklet.names import InvalidName
from gateways.arklet.payloads import Malformed, Negative
from gateways.arklet.topics import InvalidTopic, Word
from gateways.limits import RateLimit
from gateways.mqtt.baselines import Baselines
from gateways.mqtt.clocks import Clocks
from gateways.mqtt.leftovers import Leftovers
from gateways.mqtt.metrics import FOREIGN, MESSAGES, REFUSED
from gateways.mqtt.pending import Pending
from gateways.mqtt.questions import MqttQuestions
from gateways.polling.prober import Prober
from gateways.session.messages import Fact
from mqttclient.connection import MqttMessage
from mqttclient.receipts import Receipt
from service.limits import LogLimit

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
_ANSWERS = frozenset({Word.HEALTH, Word.SIMPLE_BIZ, Word.BIZ})
"""Heard by every gateway; read by the one that asked or watches."""
_OUTCOMES = frozenset({Word.BIZ_OPERATION, Word.BATCH_RESPONSE})
"""Told however old they are."""


class Refused(Exception):
    """A message is refused: reason for counting, text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class ControlPlane(Protocol):
    """What the session takes."""

    def report(self, base: str, fact: Fact) -> bool:
        """Queue a fact; False when no replica can be told."""


class Inbound:
    """Takes the messages of bases."""

    def __init__(
        self,
        env: str,
        control_plane: ControlPlane,
        prober: Prober,
        questions: MqttQuestions,
        pending: Pending,
        baselines: Baselines,
        leftovers: Leftovers,
        batches: Callable[[str, BatchReply, Receipt], None],
    ) -> None:
        self._env = env
        self._control_plane = control_plane
        self._prober = prober
        self._questions = questions
        self._pending = pending
        self._baselines = baselines
        self._leftovers = leftovers
        self._batches = batches
        self._clocks = Clocks()
        self._lines = LogLimit(LOG_EVERY)
        self._rate = RateLimit(LINES_PER_SECOND, LINES_AT_ONCE)
        self._takers: Mapping[Word, Callable[[str, Envelope, float | None], None]] = {
            Word.HEART: self._heartbeat,
            Word.QUERY_BASELINE: self._baseline_query,
            Word.HEALTH: self._health,
            Word.SIMPLE_BIZ: self._simple_modules,
            Word.BIZ: self._modules,
        }

    def take(self, message: MqttMessage) -> None:
        """Take a message."""
        base, receipt = "", message.receipt
        try:
            try:
                base, word = topics.parse(message.topic, self._env)
            except (InvalidTopic, InvalidName) as error:
                self._not_from_a_base(message, error)
                receipt.settle()
                return
            if not self._take(base, word, message):
                receipt.settle()
        except Refused as refused:
            receipt.settle()
            self._refused(base, message, refused)

    def _take(self, base: str, word: Word, message: MqttMessage) -> bool:
        """Pass a message on; True when its receipt is settled by somebody else. Raises Refused."""
        if message.retained:
            raise Refused("retained", "a retained message tells nothing of now")
        if len(message.payload) > LIMIT:
            raise Refused("too_large", f"{len(message.payload)} bytes; at most {LIMIT} are looked at")
        if word in _ANSWERS and not self._questions.concern(base):
            FOREIGN.labels(word=word.value).inc()
            return False
        try:
            opened = envelopes.envelope(message.payload)
            if word not in _OUTCOMES:
                _fresh(opened)
            made_at = self._clocks.made_at(base, opened.published_at / 1000, _now())
            _TAKEN[word].inc()
            if word is Word.BIZ_OPERATION:
                return self._operation(base, opened, made_at, message.receipt)
            if word is Word.BATCH_RESPONSE:
                return self._batch(base, opened, message.receipt)
            self._takers[word](base, opened, made_at)
        except Malformed as error:
            raise Refused("malformed", f"{word.value}: {error}") from None
        return False

    def _not_from_a_base(self, message: MqttMessage, error: InvalidTopic | InvalidName) -> None:
        """Take what somebody tells a base: seen while leftovers are looked for, or without shared subscriptions.

        Raises Refused for anything else.
        """
        base = topics.addressee(message.topic, self._env)
        if base is None:
            raise Refused("identity" if isinstance(error, InvalidName) else "topic", str(error)) from None
        self._leftovers.saw(message, base)
        if message.topic == topics.baseline(self._env, base) and not message.retained and message.payload:
            self._baselines.overheard(base)

    # News.

    def _heartbeat(self, base: str, opened: Envelope, _made_at: float | None) -> None:
        beat = envelopes.heartbeat(opened)
        _same(base, beat.metadata)
        self._leftovers.lives(base)
        if not self._control_plane.report(base, beat):
            raise Refused("no_control_plane", "no control plane replica is connected")
        if beat.state is not BaseState.DEACTIVATED:
            self._prober.beat(base)

    def _baseline_query(self, base: str, opened: Envelope, _made_at: float | None) -> None:
        metadata = envelopes.metadata(opened)
        _same(base, metadata)
        if not self._baselines.ask(metadata):
            raise Refused("too_many_baselines", "too many baseline questions wait for an answer")

    def _health(self, base: str, opened: Envelope, _made_at: float | None) -> None:
        try:
            self._questions.health(base, envelopes.health(opened))
        except Negative as error:
            self._questions.health(base, error)

    def _simple_modules(self, base: str, opened: Envelope, made_at: float | None) -> None:
        if not self._questions.modules(base, envelopes.simple_modules(opened), opened.published_at / 1000, made_at):
            raise Refused("reordered", "a newer module list came before this one")

    def _modules(self, base: str, opened: Envelope, made_at: float | None) -> None:
        try:
            modules = envelopes.modules(opened)
        except Negative as error:
            self._questions.no_modules(base, error)
            return
        if not self._questions.modules(base, modules, opened.published_at / 1000, made_at):
            raise Refused("reordered", "a newer module list came before this one")

    # Outcomes.

    def _operation(self, base: str, opened: Envelope, made_at: float | None, receipt: Receipt) -> bool:
        if self._pending.answer(base, envelopes.operation(opened), made_at, receipt):
            return True
        # Another gateway's, or too late for an order of ours: the list tells what became of it.
        FOREIGN.labels(word=Word.BIZ_OPERATION.value).inc()
        self._prober.hasten(base)
        return False

    def _batch(self, base: str, opened: Envelope, receipt: Receipt) -> bool:
        reply = envelopes.batch_reply(opened)
        if self._leftovers.is_echo(base, reply):
            return False
        self._batches(base, reply, receipt)
        self._prober.hasten(base)
        return True

    def _refused(self, base: str, message: MqttMessage, refused: Refused) -> None:
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
        raise Refused("stale", text)


def _same(base: str, metadata: Metadata) -> None:
    if metadata.identity != base:
        raise Refused("identity", f"says that it is {metadata.identity[:64]!r} under the topic of {base!r}")
