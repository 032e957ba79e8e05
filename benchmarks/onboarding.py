"""Onboarding: from the first heartbeat of bases that all start at once to Ready Nodes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks import targets
from benchmarks.api import Sightings, ready
from benchmarks.bare import bare_client, multiple
from benchmarks.exposition import Exposition
from benchmarks.figures import Figure, number, percentile
from benchmarks.progress import say
from benchmarks.stage import NODES, Line, node
from benchmarks.usage import Usage

READY_WITHIN = 300.0
SETTLE = 10.0
"""Seconds after which what follows a new Node (first answers of the base, Events) is written, too."""
RENEWAL = ("patch", "leases")
RENEWALS = frozenset({"lease-renew", "member-renew"})
"""What the application calls them."""
OURS = ("control plane", "gateway")


@dataclass(frozen=True)
class Onboarded:
    """Monotonic times by base."""

    began: Mapping[str, float]
    ready: Mapping[str, float]


async def onboard(line: Line, *, ramp: float = 0.0) -> Onboarded:
    """Start all bases over ramp seconds and wait until each one's Node is Ready; raises Failed."""
    count = line.stage.bases
    async with Sightings(line.kube, NODES, {"ready": ready}) as nodes:
        say(f"{count} bases begin" + (f" over {ramp:g} s" if ramp else ""))
        beginning = asyncio.create_task(line.fleet.post(f"/begin?ramp={ramp}"))
        try:
            await nodes.wait("ready", count, within=READY_WITHIN + ramp, what="Nodes Ready")
            began: dict[str, float] = await beginning
        finally:
            beginning.cancel()
    seen = nodes.times["ready"]
    return Onboarded(began, {base: seen[node(base)] for base in began})


async def measure(line: Line, *, baseline: bool) -> list[Figure]:
    """Return the figures of onboarding, beside a bare client if that is asked for; raises Failed, ClusterError."""
    bases, alone = line.stage.bases, None
    if baseline:
        async with bare_client(line) as client:
            alone = await client.onboard()
        await asyncio.sleep(SETTLE)
    metrics, used = await line.metrics(), line.usage()
    done = await onboard(line)
    used_after = line.usage()
    took = max(done.ready.values()) - min(done.began.values())
    say(f"all Ready after {took:.2f} s; waiting {SETTLE:g} s for what follows")
    await asyncio.sleep(SETTLE)
    settled = line.usage()
    metrics = (await line.metrics()).since(metrics)
    each = [done.ready[base] - began for base, began in done.began.items()]
    return [
        *([] if alone is None else [multiple("onboarding", [took], [alone], targets.ONBOARDING_MULTIPLE)]),
        Figure("first heartbeat -> all Nodes Ready", took, "s", targets.ONBOARDING_SECONDS_PER_BASE * bases),
        Figure("of one base, p50", percentile(each, 0.50), "s"),
        Figure("of one base, p99", percentile(each, 0.99), "s"),
        Figure("bases per second", bases / took, "1/s"),
        *writes_per(metrics, bases, "base"),
        *latency(metrics),
        *cpu_of_each(used, used_after, bases, "base onboarded", targets.ONBOARDING_MS),
        *cpu(used, used_after, "until all were Ready"),
        *memory(used, settled, bases),
    ]


def writes_per(metrics: Exposition, count: int, of: str, target: float | None = None) -> list[Figure]:
    """Return API writes for each of count, lease renewals left out."""
    writes = {what: times for what, times in metrics.writes().items() if what != RENEWAL}
    note = ", ".join(f"{verb} {resource} {times / count:.2f}" for (verb, resource), times in writes.items())
    asked = metrics.by("koupleless_cluster_writes_total", "what")
    wanted = sum(times for (what,), times in asked.items() if what not in RENEWALS)
    return [
        Figure(f"API writes per {of}, renewals left out", sum(writes.values()) / count, "1", target, note),
        Figure(f"of them no Events, as the application asked per {of}", wanted / count, "1"),
    ]


def latency(metrics: Exposition) -> list[Figure]:
    """Return how long requests of the control plane to the API server took, by verb and resource."""
    found = []
    for verb, resource in metrics.writes():
        of = {"verb": verb, "resource": resource}
        p50, p99 = (1000 * metrics.quantile("koupleless_api_request_seconds", share, of) for share in (0.5, 0.99))
        found.append(Figure(f"API server: {verb} {resource} p50", p50, "ms", note=f"p99 {number(p99)} ms"))
    return found


def cpu(before: Mapping[str, Usage], after: Mapping[str, Usage], when: str) -> list[Figure]:
    """Return the CPU seconds of each process."""
    return [Figure(f"CPU of {name}", after[name].cpu - before[name].cpu, "s", note=when) for name in before]


def cpu_of_each(
    before: Mapping[str, Usage],
    after: Mapping[str, Usage],
    count: int,
    of: str,
    limits: Mapping[str, float],
    rest: Mapping[str, float] = MappingProxyType({}),
    took: float = 0.0,
) -> list[Figure]:
    """Return the CPU milliseconds of control plane and gateway for each of count, beside their limits.

    rest is the cores that each uses where only the usual happens, took the seconds in which that happened meanwhile.
    """
    found = []
    for name in OURS:
        usual = f"of it {number(1000 * rest[name] * took / count)} ms as at rest" if name in rest else ""
        spent = 1000 * (after[name].cpu - before[name].cpu) / count
        found.append(Figure(f"CPU of {name} per {of}", spent, "ms", limits.get(name), usual))
    return found


def memory(before: Mapping[str, Usage], after: Mapping[str, Usage], bases: int) -> list[Figure]:
    """Return resident memory of control plane and gateway, and how much of it a VNode takes."""
    grown = after["control plane"].resident - before["control plane"].resident
    return [
        Figure(
            "memory of control plane", after["control plane"].resident / 1e6, "MB", targets.CONTROL_PLANE_BYTES / 1e6
        ),
        Figure(
            "memory of control plane per VNode",
            grown / bases / 1e3,
            "KB",
            targets.VNODE_BYTES / 1e3,
            "grown since before the first base",
        ),
        Figure("memory of gateway", after["gateway"].resident / 1e6, "MB"),
    ]
