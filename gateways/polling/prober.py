"""Polls watched bases: modules and health, each at its own interval, one question of a kind at a time.

One timer for each base and kind stands in the event loop's heap and nothing else exists while a base is idle; a task
lives only as long as a question. An answer of any kind is a sign of life. A failed poll is reported when the way in
which it fails changes, not each time.

A base that refuses connections may be about to start: it is asked again after 0.5, 1, 2, 4 s and so on up to the
interval, and from 0.5 s again when it sends a heartbeat. Once it answers one question the other one is asked at once.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog
from google.protobuf.duration_pb2 import Duration
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.commands import COMMANDS
from gateways.session.validation import seconds

log = structlog.get_logger(__name__)

SOON = 0.5
"""Seconds after which a base that may be about to start is asked again at first."""
JITTER = 0.1
"""Share of an interval by which a poll may come earlier or later."""
TOGETHER = 0.02
"""Share of an interval in which polls that fall due begin together: to wake up costs more than to ask."""
MIN_INTERVAL = 0.05
"""Seconds: the shortest polling interval that is kept to."""
HEARTBEATS_FLOW = 25.0
"""Seconds since the last heartbeat within which heartbeats count as flowing: two intervals of 12 s."""
LEAVING_APART = 1.0
"""Seconds between two questions to a base because somebody says in its name that it goes away."""
LIVE = 25.0
"""Seconds since the last sign of life within which a base counts as alive at its address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a question ended: what to report, if anything, and the way in which it failed, empty if it did not.

    alive: the base showed that it lives; again_after is when to ask again, in seconds, if that is sooner than the
    interval; soon: it may be about to start, so that it is worth asking again soon; rest is for how many seconds the
    base is not to be asked anything, whatever happens.
    """

    report: pb.Report | None
    failure: str = ""
    alive: bool = True
    again_after: float | None = None
    soon: bool = False
    rest: float = 0.0


Ask: TypeAlias = Callable[[pb.Watch, pb.Verb.ValueType, bool], Awaitable[Answer]]
"""Asks a base, in a bounded time. The last argument says whether it failed to answer the time before."""


@dataclass(slots=True, eq=False)
class _Poll:
    """One kind of question to one base."""

    base: "_Base"
    verb: pb.Verb.ValueType
    timer: asyncio.TimerHandle | None = None
    busy: bool = False
    again: bool = False
    failure: str = ""
    refusals: int = 0

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Base:
    """One watched base; times are those of the event loop."""

    __slots__ = ("health", "health_at", "heartbeat_at", "leaving_at", "life_at", "modules", "rests_until", "watch")

    def __init__(self, watch: pb.Watch) -> None:
        self.watch = watch
        self.modules = _Poll(self, pb.VERB_QUERY_MODULES)
        self.health = _Poll(self, pb.VERB_HEALTH)
        self.life_at = self.heartbeat_at = self.health_at = float("-inf")
        self.leaving_at = self.rests_until = float("-inf")


@dataclass(slots=True)
class Prober:
    """Polls all watched bases and reports what they say."""

    ask: Ask
    report: Callable[[pb.Report], object]
    chance: Callable[[], float] = random.random
    _bases: dict[str, _Base] = field(default_factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def watch(self, watch: pb.Watch) -> None:
        """Poll a base from now on, or as this Watch says; asks at once when the Watch wants a newer list."""
        known = self._bases.get(watch.base_id)
        if known is None or known.watch.address != watch.address:
            self.unwatch(watch.base_id)
            base = self._bases[watch.base_id] = _Base(watch)
            self._ask(base.modules)
            self._ask(base.health)
            return
        before, known.watch = known.watch, watch
        known.modules.failure = known.health.failure = ""
        if (watch.fence, watch.epoch) != (before.fence, before.epoch):
            self._ask(known.modules)

    def unwatch(self, base: str) -> None:
        """Poll a base no more; answers that are still to come are dropped."""
        if (gone := self._bases.pop(base, None)) is not None:
            gone.modules.cancel()
            gone.health.cancel()

    def heartbeat(self, base: str, address: pb.Address | None = None) -> None:
        """Take note of a heartbeat; one from another address than the one that is watched counts for nothing."""
        watched = self._bases.get(base)
        if watched is None or address not in (None, watched.watch.address):
            return
        watched.heartbeat_at = watched.life_at = self._now()
        for poll in (watched.modules, watched.health):
            if poll.refusals:
                poll.refusals = 1
                if poll.timer is not None and poll.timer.when() > self._now() + SOON:
                    poll.cancel()
                    self._schedule(poll, SOON)

    def leaving(self, base: str) -> None:
        """Ask a base at once that is said to go away, at most once in ``LEAVING_APART`` seconds."""
        watched = self._bases.get(base)
        if watched is not None and self._now() - watched.leaving_at >= LEAVING_APART:
            watched.leaving_at = self._now()
            self._ask(watched.modules)
            self._ask(watched.health)

    def alive_elsewhere(self, base: str, address: pb.Address) -> pb.Address | None:
        """Return where the base is alive if that is another address than this one."""
        watched = self._bases.get(base)
        if watched is None or watched.watch.address == address or self._now() - watched.life_at > LIVE:
            return None
        return watched.watch.address

    def alive_at(self, base: str, address: pb.Address) -> bool:
        """Return whether a base is watched and alive at an address."""
        watched = self._bases.get(base)
        return watched is not None and watched.watch.address == address and self._now() - watched.life_at <= LIVE

    def epoch(self, base: str) -> int:
        """Return the epoch of the Watch in force, 0 without one."""
        watched = self._bases.get(base)
        return 0 if watched is None else watched.watch.epoch

    def hasten(self, base: str) -> None:
        """Ask for the modules of a base at once: something has probably changed."""
        if (watched := self._bases.get(base)) is not None:
            self._ask(watched.modules)

    async def close(self) -> None:
        """Stop polling at once."""
        for base in list(self._bases):
            self.unwatch(base)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _ask(self, poll: _Poll) -> None:
        """Ask now, or directly after the question that is under way, or once a base that rests may be asked again."""
        poll.cancel()
        if poll.busy:
            poll.again = True
            return
        if (rest := poll.base.rests_until - self._now()) > 0:
            poll.timer = asyncio.get_running_loop().call_later(rest, self._ask, poll)
            return
        poll.busy = True
        task = asyncio.create_task(self._poll(poll), name=f"{COMMANDS[poll.verb]} {poll.base.watch.base_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _poll(self, poll: _Poll) -> None:
        base, watch = poll.base, poll.base.watch
        try:
            answer = await self.ask(watch, poll.verb, bool(poll.failure))
        except Exception as error:  # supervisor: a defect met with one base must not end its polling
            log.exception("defect while polling a base", base=watch.base_id, verb=COMMANDS[poll.verb])
            reason = f"the gateway failed: {type(error).__name__}"
            answer = Answer(failed_poll(watch, poll.verb, reason), "defect", alive=False)
        finally:
            poll.busy = False
        if answer.alive:
            base.life_at = self._now()
        if answer.rest:
            base.rests_until = self._now() + answer.rest
        if answer.report is not None and answer.report.HasField("health"):
            base.health_at = self._now()
        if self._bases.get(watch.base_id) is not base:
            return
        if answer.report is not None and (not answer.failure or answer.failure != poll.failure):
            self._tell(answer.report, poll)
        poll.failure = answer.failure
        poll.refusals = poll.refusals + 1 if answer.soon else 0
        other = base.health if poll is base.modules else base.modules
        if answer.alive and other.refusals and not other.busy:
            self._ask(other)
        if poll.again:
            poll.again = False
            self._ask(poll)
        else:
            self._schedule(poll, SOON * 2.0 ** min(poll.refusals - 1, 16) if answer.soon else answer.again_after)

    def _tell(self, report: pb.Report, poll: _Poll) -> None:
        self.report(report)
        if report.HasField("poll_failed"):
            reason = report.poll_failed.reason
            log.info("base cannot be polled", base=report.base_id, verb=COMMANDS[poll.verb], reason=reason)
        elif poll.failure:
            log.info("base can be polled again", base=report.base_id, verb=COMMANDS[poll.verb])

    def _schedule(self, poll: _Poll, after: float | None = None) -> None:
        watch = poll.base.watch
        interval = _interval(watch.modules_interval if poll is poll.base.modules else watch.silent_health_interval)
        delay = (interval if after is None else min(after, interval)) * (1 + JITTER * (2 * self.chance() - 1))
        due, grid = self._now() + delay, interval * TOGETHER
        if after is None:
            due = math.ceil(due / grid) * grid
        poll.timer = asyncio.get_running_loop().call_at(due, self._due, poll)

    def _due(self, poll: _Poll) -> None:
        if poll is poll.base.health and self._health_can_wait(poll.base):
            self._schedule(poll)
        else:
            self._ask(poll)

    def _health_can_wait(self, base: _Base) -> bool:
        """While heartbeats flow, health is asked for less often; whether they do is looked at in between."""
        now, watch = self._now(), base.watch
        flowing = now - base.heartbeat_at <= HEARTBEATS_FLOW
        early = JITTER * _interval(watch.silent_health_interval)
        waits = now - base.health_at < _interval(watch.health_interval) - early
        return flowing and not base.health.failure and waits


def failed_poll(
    watch: pb.Watch,
    verb: pb.Verb.ValueType,
    reason: str,
    failure: pb.PollFailure.ValueType = pb.POLL_FAILURE_UNSPECIFIED,
) -> pb.Report:
    """Return the report that a watched base could not be asked; reason is for people."""
    failed = pb.PollFailed(verb=verb, reason=reason, epoch=watch.epoch, failure=failure)
    return pb.Report(base_id=watch.base_id, poll_failed=failed)


def _interval(duration: Duration) -> float:
    return max(seconds(duration), MIN_INTERVAL)
