"""Sends the probes of modules, as a kubelet does for its Pods, and keeps what they show.

Each probed module has a task. All share a bound on the probes under way, and a pace: when there are more than the pace
allows, periods get longer and nothing else waits.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
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

Key: TypeAlias = tuple[str, str]
"""UID of a Pod and name of a container."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running module and its probes; equal to another one if it is probed in the same way.

    run differs from one start of the module to the next, age is the seconds since it; started and ready are what the
    Pod's status says.
    """

    key: Key
    ip: str
    probes: Probes
    run: str
    age: float = field(compare=False)
    started: bool = field(compare=False)
    ready: bool = field(compare=False)


@dataclass(slots=True, eq=False)
class _Watched:
    target: Target
    reading: Reading
    task: asyncio.Task[None] | None = None


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
        self._group: asyncio.TaskGroup | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._paced = 0.0

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
            if watched.target != wanted.get(key):
                if watched.task is not None:
                    watched.task.cancel()
                del known.watched[key]
        for key, target in wanted.items():
            if key not in known.watched:
                reading = probes.first(target.probes, target.run, started=target.started, ready=target.ready)
                self._begin(known, _Watched(target, reading))
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
            self._group = group
            for base in self._bases.values():
                for watched in tuple(base.watched.values()):
                    self._begin(base, watched)
            await asyncio.get_running_loop().create_future()
        raise AssertionError("the prober never returns")

    def _begin(self, base: _Base, watched: _Watched) -> None:
        base.watched[watched.target.key] = watched
        if self._group is not None:
            name = f"probe-{watched.target.ip}"
            watched.task = self._group.create_task(self._probe_in_turn(base, watched), name=name)

    async def _probe_in_turn(self, base: _Base, watched: _Watched) -> None:
        target, born = watched.target, self._clock.monotonic() - watched.target.age
        probe = probes.current(target.probes, watched.reading)
        if probe is None:
            return
        # What was probed before, by an earlier term, is in no hurry, and all of it comes at once.
        spread = probe.period * self._random.random() if watched.reading.ready else 0.0
        at = max(born + probe.initial_delay, self._clock.monotonic() + spread)
        while probe is not None:
            await asyncio.sleep(at - self._clock.monotonic())
            began = self._clock.monotonic()
            async with base.slots, self._slots:
                await self._keep_pace()
                outcome = await self._send(target.ip, probe)
            PROBES.labels("success" if outcome.success else "failure").inc()
            before = watched.reading
            watched.reading = probes.take(target.probes, before, outcome)
            if watched.reading.shown != before.shown:
                base.changed.set()
            following = probes.current(target.probes, watched.reading)
            at = began + probe.period if following is probe or following is None else born + following.initial_delay
            probe = following

    async def _keep_pace(self) -> None:
        now = self._clock.monotonic()
        self._paced = max(self._paced, now) + 1 / A_SECOND
        if self._paced > now + BURST:
            await asyncio.sleep(self._paced - now)

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
