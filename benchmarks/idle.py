"""What bases cost that nothing happens to: API writes, CPU time, memory; with modules, too, and once they left."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import targets
from benchmarks.api import Json, Sightings, gone, ready
from benchmarks.exposition import Exposition
from benchmarks.figures import Figure
from benchmarks.install import RAMP_PER_BASE
from benchmarks.modules import bound_pod, each, plan
from benchmarks.onboarding import OURS, memory, onboard
from benchmarks.progress import say
from benchmarks.stage import NODES, PODS, Line, identities
from benchmarks.usage import Usage

SETTLE = 30.0
GIVEN_BACK = 75.0
"""Seconds after which memory that is not needed any more is the system's again."""
SETTLED = 300.0
"""Seconds after which it is measured, whatever still happens."""
STEP = 5.0
SAY_EVERY = 30.0
DONE_WITHIN = 900.0


@dataclass(frozen=True)
class Rest:
    """A time in which nothing happened: seconds, cores that each process used, what the control plane counted."""

    took: float
    cores: Mapping[str, float]
    metrics: Exposition


async def rest(line: Line, seconds: float) -> Rest:
    """Start all bases, wait until only the usual happens, then for so many seconds; raises Failed."""
    await onboard(line, ramp=RAMP_PER_BASE * line.stage.bases)
    return await quiet(line, seconds)


async def quiet(line: Line, seconds: float) -> Rest:
    """Wait until only the usual happens, then for so many seconds; raises Failed."""
    say(f"waiting {SETTLE:g} s until only the usual happens")
    await asyncio.sleep(SETTLE)
    until = time.monotonic() + SETTLED
    while time.monotonic() < until and await _reads(line, STEP) > 1:
        say("the Pods of new VNodes are still being looked for")
    metrics, used, began = await line.metrics(), line.usage(), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        say(f"idle, {left:.0f} s to go")
        await asyncio.sleep(min(left, SAY_EVERY))
    after, took = line.usage(), time.monotonic() - began
    cores = {name: (after[name].cpu - used[name].cpu) / took for name in used}
    return Rest(took, cores, (await line.metrics()).since(metrics))


async def _reads(line: Line, seconds: float) -> float:
    """Return how often something is read from the API server in so many seconds."""
    before = await line.metrics()
    await asyncio.sleep(seconds)
    return (await line.metrics()).since(before).reads()


def _not_ready(kind: str, obj: Json) -> bool:
    """Return whether a Node that is there is not Ready."""
    return kind != "DELETED" and not ready(kind, obj)


async def measure(line: Line, *, seconds: float, modules: int, lease_duration: int) -> list[Figure]:
    """Return the figures of so many seconds without modules, and of as many with some on each base; raises Failed."""
    bases, empty = line.stage.bases, line.usage()
    await onboard(line, ramp=RAMP_PER_BASE * bases)
    async with Sightings(line.kube, NODES, {"not ready": _not_ready}) as nodes:
        done = await quiet(line, seconds)
    long = lease_duration >= targets.LONG_LEASE_DURATION
    full = line.usage()
    minutes = bases * done.took / 60
    writes = done.metrics.writes()
    figures = [
        Figure(
            "API writes per VNode and minute",
            sum(writes.values()) / minutes,
            "1/min",
            targets.LONG_WRITES_PER_VNODE_MINUTE if long else targets.WRITES_PER_VNODE_MINUTE,
            note=f"within {done.took:.0f} s",
        ),
        *(Figure(f"  {verb} {what}", number / minutes, "1/min") for (verb, what), number in writes.items()),
        Figure(
            "API reads per VNode and minute",
            done.metrics.reads() / minutes,
            "1/min",
            note="new watches; the aim is 0",
        ),
        Figure("Nodes that were not Ready meanwhile", len(nodes.times["not ready"]), "1", 0.0),
        *cores(done, bases),
        *memory(empty, full, bases),
    ]
    if modules:
        figures += await _with_modules(line, done, full, seconds, modules)
    return [*figures, *await _left(line, empty, full)]


def cores(done: Rest, bases: int) -> list[Figure]:
    """Return the cores that each process used at rest, ours beside their targets."""
    limits = {name: bases * share for name, share in targets.CORES_PER_BASE.items()}
    return [Figure(f"CPU of {name} at rest", share, "cores", limits.get(name)) for name, share in done.cores.items()]


async def _with_modules(
    line: Line, alone: Rest, full: Mapping[str, Usage], seconds: float, each_has: int
) -> list[Figure]:
    """Return what changes where each base has modules; they are removed again."""
    work = plan(identities(line.stage.bases), each_has * line.stage.bases)
    async with Sightings(line.kube, PODS, {"ready": ready, "gone": gone}) as pods:
        say(f"creating {len(work)} bound Pods")
        await each(work, lambda module: line.kube.post(PODS, bound_pod(module)))
        await pods.wait("ready", len(work), within=DONE_WITHIN, what="Pods Ready")
        loaded = await quiet(line, seconds)
        used = line.usage()
        say(f"deleting {len(work)} Pods")
        await each(work, lambda module: line.kube.call("DELETE", f"{PODS}/{module.pod}"))
        await pods.wait("gone", len(work), within=DONE_WITHIN, what="Pods gone")
    what = f"with {each_has} modules on each base"
    figures = []
    for name in OURS:
        share, note = loaded.cores[name] / alone.cores[name], f"{loaded.cores[name]:.3f} cores"
        figures.append(Figure(f"CPU of {name} {what}, multiple", share, "1", targets.CORES_WITH_MODULES, note))
    grown = used["control plane"].resident - full["control plane"].resident
    per_module = grown / len(work) / 1e3
    return [*figures, Figure("memory of control plane per module", per_module, "KB", targets.MODULE_BYTES / 1e3)]


async def _left(line: Line, empty: Mapping[str, Usage], full: Mapping[str, Usage]) -> list[Figure]:
    """Return how much memory stays once all bases said that they leave."""
    async with Sightings(line.kube, NODES, {"gone": gone}) as nodes:
        say(f"{line.stage.bases} bases leave")
        await line.fleet.post("/admin/deactivate")
        await nodes.wait("gone", line.stage.bases, within=DONE_WITHIN, what="Nodes gone")
    await asyncio.sleep(GIVEN_BACK)
    after = line.usage()
    figures = []
    for name in OURS:
        stays = (after[name].resident - empty[name].resident) / 1e6
        note = f"{(full[name].resident - empty[name].resident) / 1e6:.1f} MB with all bases, before any module"
        figures.append(Figure(f"memory of {name} after bases left, above that before", stays, "MB", note=note))
    return figures
