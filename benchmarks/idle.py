"""What bases cost that nothing happens to: API writes, CPU time, memory."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import targets
from benchmarks.exposition import Exposition
from benchmarks.figures import Figure
from benchmarks.install import RAMP_PER_BASE
from benchmarks.onboarding import memory, onboard
from benchmarks.progress import say
from benchmarks.stage import Line

SETTLE = 30.0
SAY_EVERY = 30.0


@dataclass(frozen=True)
class Rest:
    """A time in which nothing happened: seconds, cores that each process used, what the control plane counted."""

    took: float
    cores: Mapping[str, float]
    metrics: Exposition


async def rest(line: Line, seconds: float) -> Rest:
    """Start all bases, wait until only the usual happens, then for so many seconds; raises Failed."""
    await onboard(line, ramp=RAMP_PER_BASE * line.stage.bases)
    say(f"all Nodes Ready; waiting {SETTLE:g} s until only the usual happens")
    await asyncio.sleep(SETTLE)
    metrics, used, began = await line.metrics(), line.usage(), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        say(f"idle, {left:.0f} s to go")
        await asyncio.sleep(min(left, SAY_EVERY))
    after, took = line.usage(), time.monotonic() - began
    cores = {name: (after[name].cpu - used[name].cpu) / took for name in used}
    return Rest(took, cores, (await line.metrics()).since(metrics))


async def measure(line: Line, *, seconds: float) -> list[Figure]:
    """Return the figures of so many seconds in which nothing happens; raises Failed."""
    bases, empty = line.stage.bases, line.usage()
    done = await rest(line, seconds)
    minutes = bases * done.took / 60
    writes = done.metrics.writes()
    limits = {
        "control plane": targets.CONTROL_PLANE_CORES_PER_BASE * bases,
        "gateway": targets.GATEWAY_CORES_PER_BASE * bases,
    }
    return [
        Figure(
            "API writes per VNode and minute",
            sum(writes.values()) / minutes,
            "1/min",
            targets.WRITES_PER_VNODE_MINUTE,
            note=f"within {done.took:.0f} s",
        ),
        *(Figure(f"  {verb} {what}", number / minutes, "1/min") for (verb, what), number in writes.items()),
        Figure(
            "API reads per VNode and minute",
            done.metrics.reads() / minutes,
            "1/min",
            note="new watches; the aim is 0",
        ),
        *(Figure(f"CPU of {name}", share, "cores", limits.get(name)) for name, share in done.cores.items()),
        *memory(empty, line.usage(), bases),
    ]
