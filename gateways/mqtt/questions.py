"""How watched bases are asked over MQTT, and what comes back.

The answer to a question is the next list, or health, of that base, whoever asked for
it; ``clocks`` decides which epoch a list counts for. What nobody here asked for is
told too if this gateway watches the base, and dropped if it does not.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol, TypeAlias

from gateways.arklet import commands, topics
from gateways.arklet.facts import Health, Module, Verb
from gateways.arklet.payloads import Negative
from gateways.mqtt.clocks import GUARD, Epochs
from gateways.mqtt.metrics import FOREIGN, PUBLISHED
from gateways.polling.prober import Answer
from gateways.session.messages import Fact, ModuleList, PollFailed, PollFailure, Watch
from mqttclient.failures import Lost, NotSent

CONFIRM = 1.25 * GUARD
"""Seconds after which a base is asked again whose list was too old for the epoch in force."""
REORDERED = 10.0
"""Seconds by which a list may be older than the last one and count as overtaken, not as a clock set back."""

Told: TypeAlias = Health | ModuleList | Negative


class Publisher(Protocol):
    """What sends to bases: ``Broker``."""

    @property
    def ready(self) -> bool:
        """Whether it can."""

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        """Send; the future is done once the broker has it, or raises Lost. Raises NotSent."""


class _Watched:
    __slots__ = ("epochs", "last_stamp")

    def __init__(self, watch: Watch, now: float) -> None:
        self.epochs = Epochs(watch.fence, watch.epoch, now)
        self.last_stamp = float("-inf")


class MqttQuestions:
    """Asks bases and gives their answers to who waits for them. Timeouts are in seconds."""

    def __init__(
        self,
        env: str,
        broker: Publisher,
        report: Callable[[str, Fact], object],
        *,
        health_timeout: float,
        query_timeout: float,
    ) -> None:
        self._env = env
        self._broker = broker
        self._report = report
        self._timeouts = {Verb.HEALTH: health_timeout, Verb.QUERY_MODULES: query_timeout}
        self._watched: dict[str, _Watched] = {}
        self._waiting: defaultdict[tuple[str, Verb], list[asyncio.Future[Told]]] = defaultdict(list)

    def watch(self, watch: Watch) -> None:
        """Take note of a Watch and of when its epoch began."""
        watched, now = self._watched.get(watch.base), self._now()
        if watched is None or watched.epochs.fence != watch.fence:
            self._watched[watch.base] = _Watched(watch, now)
        else:
            watched.epochs.begin(watch.epoch, now)

    def unwatch(self, base: str) -> None:
        """Tell nothing of a base any more that was not asked for."""
        self._watched.pop(base, None)

    async def ask(self, watch: Watch, verb: Verb, *, failing: bool) -> Answer:
        """Ask a watched base."""
        del failing
        timeout = self._timeouts[verb]
        try:
            told = await self.question(watch.base, verb, timeout=timeout)
        except (NotSent, Lost):
            # Tunnel state tells that; it says nothing of the base.
            return Answer(None, "tunnel", alive=False)
        except TimeoutError:
            reason = f"no answer within {timeout:g} s"
            return Answer(PollFailed(verb, reason, watch.epoch, PollFailure.NO_ANSWER), "silent", alive=False)
        if isinstance(told, Negative):
            return Answer(PollFailed(verb, str(told), watch.epoch, PollFailure.NEGATIVE), "negative")
        watched = self._watched.get(watch.base)
        behind = isinstance(told, ModuleList) and watched is not None and told.epoch != watched.epochs.current
        return Answer(told, again_after=CONFIRM if behind else None)

    async def question(self, base: str, verb: Verb, *, timeout: float) -> Told:
        """Ask a base. Raises NotSent, Lost, or TimeoutError when it does not answer."""
        key = base, verb
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(answer)
        try:
            async with asyncio.timeout(timeout):
                PUBLISHED.labels(command=verb.value).inc()
                await self._broker.publish(topics.command(self._env, base, verb), commands.body(verb))
                return await answer
        finally:
            self._waiting[key].remove(answer)
            if not self._waiting[key]:
                del self._waiting[key]

    def concern(self, base: str) -> bool:
        """Tell whether the answers of a base are of use here."""
        return (
            base in self._watched or (base, Verb.HEALTH) in self._waiting or (base, Verb.QUERY_MODULES) in self._waiting
        )

    def health(self, base: str, told: Health | Negative) -> None:
        """Take the word of a base on its health."""
        self._tell(base, Verb.HEALTH, told)

    def modules(self, base: str, modules: tuple[Module, ...], stamp: float, made_at: float | None) -> bool:
        """Take a module list; False when a newer one came before it. stamp is in seconds by the base's clock."""
        watched = self._watched.get(base)
        epoch = 0
        if watched is not None:
            if 0 < watched.last_stamp - stamp < REORDERED:
                return False
            watched.last_stamp = stamp
            epoch = watched.epochs.of(made_at)
        self._tell(base, Verb.QUERY_MODULES, ModuleList(modules, epoch))
        return True

    def no_modules(self, base: str, told: Negative) -> None:
        """Take the word of a base that it cannot tell its modules."""
        self._tell(base, Verb.QUERY_MODULES, told)

    def interrupt(self, why: str) -> None:
        """End all waits: what bases say from now on may not reach us."""
        for answers in self._waiting.values():
            for answer in answers:
                if not answer.done():
                    answer.set_exception(Lost(why))

    def _tell(self, base: str, verb: Verb, told: Told) -> None:
        waiting = [answer for answer in self._waiting.get((base, verb), ()) if not answer.done()]
        for answer in waiting:
            answer.set_result(told)
        if waiting:
            return
        if base in self._watched and not isinstance(told, Negative):
            self._report(base, told)
        else:
            FOREIGN.labels(word=verb.value).inc()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
