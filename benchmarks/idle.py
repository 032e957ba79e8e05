"""What bases cost that nothing happens to: API writes, CPU time, memory."""

import asyncio
import time

from benchmarks import targets
from benchmarks.figures import Figure
from benchmarks.install import RAMP_PER_BASE
from benchmarks.onboarding import memory, onboard
from benchmarks.progress import say
from benchmarks.stage import Line

SETTLE = 30.0
SAY_EVERY = 30.0


async def measure(line: Line, *, seconds: float) -> list[Figure]:
    """Return the figures of so many seconds in which nothing happens; raises Failed."""
    bases, empty = line.stage.bases, line.usage()
    await onboard(line, ramp=RAMP_PER_BASE * bases)
    say(f"all Nodes Ready; waiting {SETTLE:g} s until only the usual happens")
    await asyncio.sleep(SETTLE)
    metrics, used, began = await line.metrics(), line.usage(), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        say(f"idle, {left:.0f} s to go")
        await asyncio.sleep(min(left, SAY_EVERY))
    metrics, used_after, took = (await line.metrics()).since(metrics), line.usage(), time.monotonic() - began
    minutes = bases * took / 60
    writes = metrics.writes()
    cores = {name: (used_after[name].cpu - used[name].cpu) / took for name in used}
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
            note=f"within {took:.0f} s",
        ),
        *(Figure(f"  {verb} {what}", number / minutes, "1/min") for (verb, what), number in writes.items()),
        Figure(
            "API reads per VNode and minute",
            metrics.reads() / minutes,
            "1/min",
            note="new watches; the aim is 0",
        ),
        *(Figure(f"CPU of {name}", share, "cores", limits.get(name)) for name, share in cores.items()),
        *memory(empty, used_after, bases),
    ]
