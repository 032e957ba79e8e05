"""Polls watched bases: modules and health, each at its own interval, one question of a kind at a time.

One timer for each base and kind stands in the event loop's heap and nothing else
exists while a base is idle; a task lives only as long as a question. An answer of
any kind is a sign of life. A failed poll is reported when the way in which it fails
changes, not each time.

A base that refuses connections may be about to start: it is asked again after 0.5, 1,
2, 4 s and so on up to the interval, and anew from 0.5 s when it beats. Once it answers
one question the other one is asked at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gateways.arklet.facts import Health, Verb
from gateways.session.messages import Address, Fact, PollFailed, Watch

log = structlog.get_logger(__name__)

SOON = 0.5
"""Seconds after which a base that may be about to start is asked again at first."""
JITTER = 0.1
"""Share of an interval by which a poll may come earlier or later."""
BEATS_FLOW = 25.0
"""Seconds since the last heartbeat within which heartbeats count as flowing: two beats of 12 s."""
LIVE = 25.0
"""Seconds since the last sign of life within which a base counts as alive at its address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a question ended: what to report, if anything, and the way in which it failed, empty if it did not.

    alive tells whether the base showed that it lives; again_after is when to ask
    again, in seconds, if that is sooner than the interval; soon: it may be about to
    start, so that it is worth asking again soon.
    """

    fact: Fact | None
    failure: str = ""
    alive: bool = True
    again_after: float | None = None
    soon: bool = False


class Questions(Protocol):
    """How a tunnel asks."""

    async def ask(self, watch: Watch, verb: Verb, *, failing: bool) -> Answer:
        """Ask a base; failing tells whether it failed to answer last time. The wait is bounded."""


class _Poll:
    """One kind of question to one base."""

    __slots__ = ("again", "busy", "failure", "refusals", "timer")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False
        self.again = False
        self.failure = ""
        self.refusals = 0

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Base:
    """One watched base."""

    __slots__ = ("beat_at", "health", "health_at", "life_at", "modules", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.modules = _Poll()
        self.health = _Poll()
        self.life_at = float("-inf")
        self.beat_at = float("-inf")
        self.health_at = float("-inf")

    def poll(self, verb: Verb) -> _Poll:
        return self.modules if verb is Verb.QUERY_MODULES else self.health


class Prober:
    """Polls all watched bases and reports what they say."""

    def __init__(
        self,
        questions: Questions,
        report: Callable[[str, Fact], object],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._questions = questions
        self._report = report
        self._chance = chance
        self._bases: dict[str, _Base] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._bases)

    def watch(self, watch: Watch) -> None:
        """Poll a base from now on, or as this Watch says; asks at once when the Watch wants a newer list."""
        known = self._bases.get(watch.base)
        if known is None or known.watch.address != watch.address:
            self.unwatch(watch.base)
            base = self._bases[watch.base] = _Base(watch)
            self._ask(base, Verb.QUERY_MODULES)
            self._ask(base, Verb.HEALTH)
            return
        before, known.watch = known.watch, watch
        known.modules.failure = known.health.failure = ""
        if (watch.fence, watch.epoch) != (before.fence, before.epoch):
            self._ask(known, Verb.QUERY_MODULES)

    def unwatch(self, base: str) -> None:
        """Poll a base no more; answers that are still to come are dropped."""
        gone = self._bases.pop(base, None)
        if gone is not None:
            gone.modules.cancel()
            gone.health.cancel()

    def beat(self, base: str, address: Address | None = None) -> None:
        """Take note of a heartbeat; one from another address than the one that is watched counts for nothing."""
        watched = self._bases.get(base)
        if watched is not None and address in (None, watched.watch.address):
            watched.beat_at = watched.life_at = self._now()
            for verb in (Verb.QUERY_MODULES, Verb.HEALTH):
                poll = watched.poll(verb)
                if poll.refusals:
                    poll.refusals = 1
                    self._sooner(watched, verb, poll)

    def left(self, base: str, address: Address) -> None:
        """Take note that a base said that it goes away: another address may take its identity at once."""
        watched = self._bases.get(base)
        if watched is not None and watched.watch.address == address:
            watched.beat_at = watched.life_at = float("-inf")

    def alive_elsewhere(self, base: str, address: Address) -> Address | None:
        """Return where the base is alive if that is another address than this one."""
        watched = self._bases.get(base)
        if watched is None or watched.watch.address == address or self._now() - watched.life_at > LIVE:
            return None
        return watched.watch.address

    def epoch(self, base: str) -> int:
        """Return the epoch of the Watch in force, 0 without one."""
        watched = self._bases.get(base)
        return 0 if watched is None else watched.watch.epoch

    def hasten(self, base: str) -> None:
        """Ask for the modules of a base at once: something has probably changed."""
        watched = self._bases.get(base)
        if watched is not None:
            self._ask(watched, Verb.QUERY_MODULES)

    async def close(self) -> None:
        """Stop polling at once."""
        for base in list(self._bases):
            self.unwatch(base)
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _ask(self, base: _Base, verb: Verb) -> None:
        """Ask now, or directly after the question that is under way."""
        poll = base.poll(verb)
        poll.cancel()
        if poll.busy:
            poll.again = True
            return
        poll.busy = True
        self._spawn(self._poll(base, verb, poll), f"{verb.value} {base.watch.base}")

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _poll(self, base: _Base, verb: Verb, poll: _Poll) -> None:
        watch = base.watch
        try:
            answer = await self._questions.ask(watch, verb, failing=bool(poll.failure))
        except Exception as error:  # supervisor: a defect met with one base must not end its polling
            log.exception("defect while polling a base", base=watch.base, verb=verb.value)
            fact = PollFailed(verb, f"the gateway failed: {type(error).__name__}", watch.epoch)
            answer = Answer(fact, "defect", alive=False)
        finally:
            poll.busy = False
        if answer.alive:
            base.life_at = self._now()
        if isinstance(answer.fact, Health):
            base.health_at = self._now()
        if self._bases.get(watch.base) is not base:
            return
        if answer.fact is not None and (not answer.failure or answer.failure != poll.failure):
            self._report(watch.base, answer.fact)
            if isinstance(answer.fact, PollFailed):
                log.info("base cannot be polled", base=watch.base, verb=verb.value, reason=answer.fact.reason)
            elif poll.failure:
                log.info("base can be polled again", base=watch.base, verb=verb.value)
        poll.failure = answer.failure
        poll.refusals = poll.refusals + 1 if answer.soon else 0
        if answer.alive:
            self._ask_the_other(base, verb)
        if poll.again:
            poll.again = False
            self._ask(base, verb)
        else:
            after = SOON * 2.0 ** min(poll.refusals - 1, 16) if answer.soon else answer.again_after
            self._schedule(base, verb, poll, after)

    def _ask_the_other(self, base: _Base, verb: Verb) -> None:
        """A base answered one question: if the other one met closed doors last time, it is worth asking now."""
        other = Verb.HEALTH if verb is Verb.QUERY_MODULES else Verb.QUERY_MODULES
        if base.poll(other).refusals and not base.poll(other).busy:
            self._ask(base, other)

    def _sooner(self, base: _Base, verb: Verb, poll: _Poll) -> None:
        if poll.timer is not None and poll.timer.when() > self._now() + SOON:
            poll.cancel()
            self._schedule(base, verb, poll, SOON)

    def _schedule(self, base: _Base, verb: Verb, poll: _Poll, after: float | None = None) -> None:
        watch = base.watch
        interval = watch.modules_interval if verb is Verb.QUERY_MODULES else watch.silent_health_interval
        delay = (interval if after is None else min(after, interval)) * (1 + JITTER * (2 * self._chance() - 1))
        poll.timer = asyncio.get_running_loop().call_later(delay, self._due, base, verb)

    def _due(self, base: _Base, verb: Verb) -> None:
        if verb is Verb.HEALTH and self._health_can_wait(base):
            self._schedule(base, verb, base.health)
        else:
            self._ask(base, verb)

    def _health_can_wait(self, base: _Base) -> bool:
        """While heartbeats flow, health is asked for less often; whether they do is looked at in between."""
        now, watch = self._now(), base.watch
        flowing = now - base.beat_at <= BEATS_FLOW
        early = JITTER * watch.silent_health_interval
        return flowing and not base.health.failure and now - base.health_at < watch.health_interval - early
