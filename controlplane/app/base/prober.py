"""Sends the probes of modules, as a kubelet does for its Pods, and keeps what they show.

All probes of a replica share one heap of times, a bound on those under way, and a pace:
when there are more than the pace allows, periods get longer and nothing else waits.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import NoReturn, TypeAlias

import structlog

from controlplane.app.metrics import PROBES
from controlplane.app.ports import Clock, ProbeSender
from controlplane.domain import probes
from controlplane.domain.identity import VNodeName
from controlplane.domain.probes import LONGEST_TIMEOUT, Outcome, Probe, Probes, Reading

log = structlog.get_logger(__name__)

AT_ONCE = 256
AT_ONCE_OF_A_BASE = 8
A_SECOND = 500
"""Probes that are begun in one second."""
BURST = 0.1
"""Seconds by which probes may be begun ahead of their pace, which saves many short sleeps."""

FEW = 64
"""Modules that are over and may stay in the heap until their time."""
SHORTEST = 0.001
"""Seconds of a sleep, so that the rounding of clocks makes no busy loop."""

Key: TypeAlias = tuple[str, str]
"""UID of a Pod and name of a container."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running module and its probes.

    run differs from one start of the module to the next, age is the seconds since it; started
    and ready are what the Pod's status says.
    """

    key: Key
    ip: str
    probes: Probes
    run: str
    age: float
    started: bool
    ready: bool


@dataclass(slots=True, eq=False)
class _Watched:
    target: Target
    reading: Reading
    base: _Base
    born: float
    """When the module was started, monotonic."""
    over: bool = False


@dataclass(slots=True, eq=False)
class _Base:
    changed: asyncio.Event
    watched: dict[Key, _Watched] = field(default_factory=dict)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE_OF_A_BASE))


class Prober:
    """Probes the modules that it is to attend to."""

    def __init__(self, sender: ProbeSender, clock: Clock, random: Random) -> None:
        self._sender = sender
        self._clock = clock
        self._random = random
        self._bases: dict[VNodeName, _Base] = {}
        self._heap: list[tuple[float, int, _Watched]] = []
        self._numbers = count()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._paced = 0.0
        self._over = 0
        """Modules that are not attended to any more and may still be in the heap."""

    def attend(self, base: VNodeName, targets: Iterable[Target], changed: asyncio.Event) -> None:
        """Probe these modules of a base and no others of it; changed is set when a Pod's status has to change."""
        wanted = {target.key: target for target in targets}
        known = self._bases.get(base)
        if known is None:
            if not wanted:
                return
            known = self._bases[base] = _Base(changed)
        known.changed = changed
        for key, watched in tuple(known.watched.items()):
            if key not in wanted or not _same(watched.target, wanted[key]):
                watched.over = True
                self._over += 1
                del known.watched[key]
        self._clear()
        for key, target in wanted.items():
            if key not in known.watched:
                self._begin(known, target)
        if not known.watched:
            del self._bases[base]

    def reading(self, base: VNodeName, key: Key) -> Reading | None:
        """Return what the probes of a module show, None when it is not probed."""
        known = self._bases.get(base)
        watched = known.watched.get(key) if known is not None else None
        return watched.reading if watched is not None else None

    async def run(self) -> NoReturn:
        """Send probes when they are due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                await self._send_due(group)
                wait = max(self._heap[0][0] - self._clock.monotonic(), SHORTEST) if self._heap else None
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        raise AssertionError("the prober never returns")

    def _begin(self, base: _Base, target: Target) -> None:
        now = self._clock.monotonic()
        reading = probes.first(target.probes, target.run, started=target.started, ready=target.ready)
        watched = base.watched[target.key] = _Watched(target, reading, base, born=now - target.age)
        probe = probes.current(target.probes, reading)
        if probe is not None:
            # What was probed before, by an earlier term, is in no hurry, and all of it comes at once.
            spread = probe.period * self._random.random() if reading.ready else 0.0
            self._schedule(watched, max(watched.born + probe.initial_delay, now + spread))

    def _clear(self) -> None:
        """Take out of the heap what is over once that is most of it: a delay may be years."""
        if self._over > max(len(self._heap) // 2, FEW):
            self._heap = [entry for entry in self._heap if not entry[2].over]
            heapq.heapify(self._heap)
            self._over = 0

    def _schedule(self, watched: _Watched, at: float) -> None:
        heapq.heappush(self._heap, (at, next(self._numbers), watched))
        self._wake.set()

    async def _send_due(self, group: asyncio.TaskGroup) -> None:
        while self._heap and self._heap[0][0] <= self._clock.monotonic():
            _, _, watched = heapq.heappop(self._heap)
            probe = probes.current(watched.target.probes, watched.reading)
            if watched.over:
                self._over -= 1
                continue
            if probe is None:
                continue
            now = self._clock.monotonic()
            self._paced = max(self._paced, now) + 1 / A_SECOND
            if self._paced > now + BURST:
                await asyncio.sleep(self._paced - now)
            group.create_task(self._probe(watched, probe), name=f"probe-{watched.target.ip}")

    async def _probe(self, watched: _Watched, probe: Probe) -> None:
        began = self._clock.monotonic()
        async with watched.base.slots, self._slots:
            outcome = await self._send(watched.target.ip, probe)
        if watched.over:
            return
        PROBES.labels("success" if outcome.success else "failure").inc()
        before = watched.reading
        watched.reading = probes.take(watched.target.probes, before, outcome)
        following = probes.current(watched.target.probes, watched.reading)
        if following is probe:
            self._schedule(watched, max(began + probe.period, self._clock.monotonic()))
        elif following is not None:
            self._schedule(watched, max(watched.born + following.initial_delay, self._clock.monotonic()))
        if watched.reading.shown != before.shown:
            watched.base.changed.set()

    async def _send(self, ip: str, probe: Probe) -> Outcome:
        timeout = min(probe.timeout, LONGEST_TIMEOUT)
        try:
            async with asyncio.timeout(timeout):
                return await self._sender.send(ip, probe.handler)
        except TimeoutError:
            return Outcome(False, f"no answer from port {probe.handler.port.number} of {ip} within {timeout:g} s")
        except Exception:
            # Whatever a base answers, and whatever a Pod asks for, must not end the control plane.
            log.exception("probe could not be sent", address=ip)
            return Outcome(False, "the probe could not be sent, the log of the controller says why")


def _same(one: Target, other: Target) -> bool:
    return (one.ip, one.probes, one.run) == (other.ip, other.probes, other.run)
