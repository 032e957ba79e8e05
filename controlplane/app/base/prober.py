"""Sends the probes of modules, as a kubelet does for its Pods, and keeps what they show.

Each probed module has a task. All share a bound on the probes under way, and a pace: when there are more than the pace
allows, periods get longer and nothing else waits.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import structlog

from controlplane.app.metrics import PROBES
from controlplane.app.ports import Clock, ProbeSender
from controlplane.domain import probes
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


class Prober:
    """What all bases share: who sends, how many at once, how fast."""

    def __init__(self, sender: ProbeSender, clock: Clock, random: Random) -> None:
        self._sender = sender
        self.clock = clock
        self.random = random
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._paced = 0.0

    async def send(self, ip: str, probe: Probe) -> Outcome:
        """Send one probe when it is its turn."""
        async with self._slots:
            now = self.clock.monotonic()
            self._paced = max(self._paced, now) + 1 / A_SECOND
            if self._paced > now + BURST:
                await asyncio.sleep(self._paced - now)
            outcome = await self._send(ip, probe)
        PROBES.labels("success" if outcome.success else "failure").inc()
        return outcome

    async def _send(self, ip: str, probe: Probe) -> Outcome:
        timeout = min(probe.timeout, LONGEST_TIMEOUT)
        try:
            async with asyncio.timeout(timeout):
                return await self._sender.send(ip, probe.handler)
        except TimeoutError:
            return Outcome(False, f"no answer from port {probe.handler.port.number} of {ip} within {timeout:g} s")
        except Exception:
            # Whatever a base answers, and whatever a Pod asks for, must not end its probing.
            log.exception("probe could not be sent", address=ip)
            return Outcome(False, "the probe could not be sent, the log of the controller says why")


@dataclass(slots=True)
class _Probed:
    target: Target
    reading: Reading
    task: asyncio.Task[None] = field(init=False)


class BaseProbes:
    """The probes of one base; changed is set when a Pod's status has to change."""

    def __init__(self, prober: Prober, changed: asyncio.Event) -> None:
        self._prober = prober
        self._changed = changed
        self._probed: dict[Key, _Probed] = {}
        self._slots = asyncio.Semaphore(AT_ONCE_OF_A_BASE)

    def attend(self, targets: Iterable[Target]) -> None:
        """Probe these modules and no others."""
        wanted = {target.key: target for target in targets}
        for key, probed in tuple(self._probed.items()):
            if probed.target != wanted.get(key):
                probed.task.cancel()
                del self._probed[key]
        for key, target in wanted.items():
            if key not in self._probed:
                reading = probes.first(target.probes, target.run, started=target.started, ready=target.ready)
                probed = self._probed[key] = _Probed(target, reading)
                probed.task = asyncio.create_task(self._probe_in_turn(probed), name=f"probe-{target.ip}")

    def reading(self, key: Key) -> Reading | None:
        """Return what the probes of a module show, None when it is not probed."""
        probed = self._probed.get(key)
        if probed is None:
            return None
        if probed.task.done():
            probed.task.result()  # raises what it failed on, if it did: who asks ends by it, and begins anew
        return probed.reading

    async def _probe_in_turn(self, probed: _Probed) -> None:
        target, clock = probed.target, self._prober.clock
        born, probe = clock.monotonic() - target.age, probes.current(target.probes, probed.reading)
        if probe is None:
            return
        # What was probed before, by an earlier term, is in no hurry, and all of it comes at once.
        spread = probe.period * self._prober.random.random() if probed.reading.ready else 0.0
        at = max(born + probe.initial_delay, clock.monotonic() + spread)
        while probe is not None:
            await asyncio.sleep(at - clock.monotonic())
            began = clock.monotonic()
            async with self._slots:
                outcome = await self._prober.send(target.ip, probe)
            before = probed.reading
            probed.reading = probes.take(target.probes, before, outcome)
            if probed.reading.shown != before.shown:
                self._changed.set()
            following = probes.current(target.probes, probed.reading)
            at = began + probe.period if following is probe or following is None else born + following.initial_delay
            probe = following
