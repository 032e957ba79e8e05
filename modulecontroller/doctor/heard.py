"""What was heard at the broker: bases by environment, their clocks, and commands that lie there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from gateways.arklet import envelopes, topics
from gateways.arklet.fields import Malformed
from gateways.arklet.names import InvalidName, parse_identity
from gateways.arklet.topics import Word
from modulecontroller.doctor.clock import FIX as CLOCK_FIX
from modulecontroller.doctor.clock import SKEW
from modulecontroller.doctor.findings import Finding, error, ok, some, warning
from mqttclient.connection import MqttMessage

MOST = 20_000
"""Bases, and commands, that are remembered."""
_PREFIX = "koupleless_"
_SHOWN = 100

T = TypeVar("T")


class Heard:
    """Takes messages and tells what they show; now returns epoch seconds."""

    def __init__(self, env: str, now: Callable[[], float] = time.time) -> None:
        self._env = env
        self._now = now
        self._bases: dict[str, float] = {}
        self._elsewhere: dict[str, str] = {}
        self._unusable: dict[str, str] = {}
        self._malformed: dict[str, str] = {}
        self._left: dict[str, None] = {}

    def take(self, message: MqttMessage) -> None:
        """Take a message, whatever it is."""
        if message.retained:
            if topics.addressee(message.topic, self._env) is not None and message.payload:
                _keep(self._left, message.topic, None)
            return
        levels = message.topic.split("/")
        if len(levels) != 4 or levels[2:] != ["base", Word.HEART.value] or not levels[0].startswith(_PREFIX):
            return
        env, base = levels[0].removeprefix(_PREFIX)[:_SHOWN], levels[1][:_SHOWN]
        if env != self._env:
            _keep(self._elsewhere, env, base)
            return
        try:
            parse_identity(base, env)
            opened = envelopes.envelope(message.payload)
            envelopes.heartbeat(opened)
        except InvalidName as invalid:
            _keep(self._unusable, base, str(invalid))
        except Malformed as malformed:
            _keep(self._malformed, base, str(malformed))
        else:
            _keep(self._bases, base, self._now() - opened.published_at / 1000)

    def findings(self, seconds: float) -> Iterator[Finding]:
        """Yield what was heard in so many seconds."""
        yield from self._topics(seconds)
        yield from self._clocks()
        yield from self._leftovers()

    def _topics(self, seconds: float) -> Iterator[Finding]:
        where = topics.from_all(self._env, Word.HEART)
        if self._bases:
            yield ok("topics", f"{len(self._bases)} bases beat under {where}: {some(sorted(self._bases))}")
        elif not (self._unusable or self._malformed):
            fix = "see that bases run and have their broker set; up to runtime 1.4.0 they beat only every 2 minutes"
            yield warning("topics", f"no base was heard under {where} in {seconds:g} s", fix)
        for env, base in sorted(self._elsewhere.items()):
            alike = " (which differs only in case)" if env.lower() == self._env else ""
            fix = f"set ENV={env} here, or give the bases' metadata hook the runtime environment {self._env}"
            yield warning("topics", f"bases such as {base} beat in the environment {env}{alike}: not served here", fix)
        for base, cause in self._unusable.items():
            fix = "give the base a metadata hook with an identity that lasts"
            yield error("topics", f"the base {base} cannot be used: {cause}", fix)
        for base, cause in self._malformed.items():
            yield error("topics", f"what the base {base} says is not understood: {cause}", "see docs/protocol.md")

    def _clocks(self) -> Iterator[Finding]:
        # A late delivery makes a base's clock look slow, so that only what is far off is told.
        skewed = {base: late for base, late in self._bases.items() if abs(late) > SKEW}
        if skewed:
            base, late = max(skewed.items(), key=lambda item: abs(item[1]))
            words = f"{len(skewed)} of {len(self._bases)} bases have clocks more than {SKEW:g} s off: "
            words += f"{some(sorted(skewed))}; {base} is {abs(late):.0f} s {'behind' if late > 0 else 'ahead'}"
            yield warning("clocks of bases", words, CLOCK_FIX)
        elif self._bases:
            yield ok("clocks of bases", f"all within {SKEW:g} s of this machine's")

    def _leftovers(self) -> Iterator[Finding]:
        if self._left:
            bases = sorted({topics.addressee(topic, self._env) or "" for topic in self._left})
            words = f"{len(self._left)} retained commands of another controller lie ready for {some(bases)}: a base "
            words += "that connects carries them out again"
            fix = (
                "start the MQTT gateway: it removes them for each base that shows life; stop the other controller first"
            )
            yield warning("leftovers", words, fix)
        else:
            yield ok("leftovers", "no retained commands of another controller")


def _keep(into: dict[str, T], key: str, value: T) -> None:
    if key in into or len(into) < MOST:
        into[key] = value
