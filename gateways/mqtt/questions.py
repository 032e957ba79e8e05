"""How watched bases are asked over MQTT, and what comes back.

The answer to a question is the next list, or health, of that base, whoever asked for
it; ``clocks`` decides which epoch a list counts for. What nobody here asked for is
reported too if this gateway watches the base, and dropped if it does not.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import TypeAlias

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, topics
from gateways.arklet.commands import COMMANDS
from gateways.arklet.payloads import Negative
from gateways.mqtt.broker import Publisher
from gateways.mqtt.clocks import GUARD, Epochs
from gateways.mqtt.metrics import FOREIGN, PUBLISHED
from gateways.polling.prober import Answer, failed_poll
from mqttclient.failures import Lost, NotSent

CONFIRM = 1.25 * GUARD
"""Seconds after which a base is asked again whose list was too old for the epoch in force."""
REORDERED = 10.0
"""Seconds by which a list may be older than the last one and count as overtaken, not as a clock set back."""

Said: TypeAlias = pb.Report | Negative
"""The answer of a base: its health or modules, or that it cannot say."""


class _Watched:
    __slots__ = ("epochs", "last_stamp")

    def __init__(self, watch: pb.Watch, now: float) -> None:
        self.epochs = Epochs(watch.fence, watch.epoch, now)
        self.last_stamp = float("-inf")


class MqttQuestions:
    """Asks bases and gives their answers to who waits for them. Timeouts are in seconds."""

    def __init__(
        self,
        env: str,
        broker: Publisher,
        report: Callable[[pb.Report], object],
        *,
        health_timeout: float,
        query_timeout: float,
    ) -> None:
        self._env = env
        self._broker = broker
        self._report = report
        self._timeouts = {pb.VERB_HEALTH: health_timeout, pb.VERB_QUERY_MODULES: query_timeout}
        self._watched: dict[str, _Watched] = {}
        self._waiting: defaultdict[tuple[str, int], list[asyncio.Future[Said]]] = defaultdict(list)

    def watch(self, watch: pb.Watch) -> None:
        """Take note of a Watch and of when its epoch began."""
        watched, now = self._watched.get(watch.base_id), asyncio.get_running_loop().time()
        if watched is None or watched.epochs.fence != watch.fence:
            self._watched[watch.base_id] = _Watched(watch, now)
        else:
            watched.epochs.begin(watch.epoch, now)

    def unwatch(self, base: str) -> None:
        """Report nothing of a base any more that was not asked for."""
        self._watched.pop(base, None)

    async def ask(self, watch: pb.Watch, verb: pb.Verb.ValueType, *, failing: bool) -> Answer:
        """Ask a watched base."""
        del failing
        timeout = self._timeouts[verb]
        try:
            said = await self.question(watch.base_id, verb, timeout=timeout)
        except (NotSent, Lost):
            # Tunnel state reports that; it says nothing of the base.
            return Answer(None, "tunnel", alive=False)
        except TimeoutError:
            reason = f"no answer within {timeout:g} s"
            return Answer(failed_poll(watch, verb, reason, pb.POLL_FAILURE_NO_ANSWER), "silent", alive=False)
        if isinstance(said, Negative):
            return Answer(failed_poll(watch, verb, str(said), pb.POLL_FAILURE_NEGATIVE), "negative")
        watched = self._watched.get(watch.base_id)
        behind = said.HasField("modules") and watched is not None and said.modules.epoch != watched.epochs.current
        return Answer(said, again_after=CONFIRM if behind else None)

    async def question(self, base: str, verb: pb.Verb.ValueType, *, timeout: float) -> Said:
        """Ask a base. Raises NotSent, Lost, or TimeoutError when it does not answer."""
        key = base, verb
        answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(answer)
        try:
            async with asyncio.timeout(timeout):
                PUBLISHED.labels(command=COMMANDS[verb]).inc()
                await self._broker.publish(topics.command(self._env, base, verb), commands.EMPTY)
                return await answer
        finally:
            self._waiting[key].remove(answer)
            if not self._waiting[key]:
                del self._waiting[key]

    def concern(self, base: str) -> bool:
        """Return whether the answers of a base are of use here."""
        return base in self._watched or any((base, verb) in self._waiting for verb in self._timeouts)

    def answered(self, base: str, verb: pb.Verb.ValueType, said: Said) -> None:
        """Take an answer of a base."""
        waiting = [answer for answer in self._waiting.get((base, verb), ()) if not answer.done()]
        for answer in waiting:
            answer.set_result(said)
        if waiting:
            return
        if base in self._watched and not isinstance(said, Negative):
            self._report(said)
        else:
            FOREIGN.labels(word=COMMANDS[verb]).inc()

    def listed(self, report: pb.Report, stamp: float, made_at: float | None) -> bool:
        """Take a module list; False when a newer one came before it. stamp is in seconds by the base's clock."""
        watched = self._watched.get(report.base_id)
        if watched is not None:
            if 0 < watched.last_stamp - stamp < REORDERED:
                return False
            watched.last_stamp = stamp
            report.modules.epoch = watched.epochs.of(made_at)
        self.answered(report.base_id, pb.VERB_QUERY_MODULES, report)
        return True

    def interrupt(self, why: str) -> None:
        """End all waits: what bases say from now on may not reach us."""
        for answers in self._waiting.values():
            for answer in answers:
                if not answer.done():
                    answer.set_exception(Lost(why))
