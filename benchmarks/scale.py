"""How cost grows with the number of bases, on a stand-in of the API server, which this machine's own could not follow.

For each number there is a stage of its own: bases begin over one interval of heartbeats, become Ready, and rest.
"""

import argparse
import asyncio
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, targets, trusted
from benchmarks.figures import Figure
from benchmarks.idle import Rest, quiet
from benchmarks.onboarding import onboard
from benchmarks.progress import say
from benchmarks.stage import ROOT, STARTED_WITHIN, ApiServer, Stage, build, line
from benchmarks.usage import Usage
from tests.programs import Programs, status

RAMP = 12.0
"""Seconds over which bases begin: an interval of heartbeats, over which they are spread from then on."""
STAND_IN = "stand-in of the API server"
BUSY = 0.9
"""Cores from which on a process of ours, which uses one at most, may be at its limit."""


@dataclass(frozen=True)
class Point:
    """What so many bases cost: seconds of CPU time of control plane and gateway until Ready, and their rest.

    Control plane is all replicas together. grown is its memory in bytes.
    """

    bases: int
    onboarded: Mapping[str, float]
    rest: Rest
    cores: Mapping[str, float]
    grown: float


def measure(options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    """Return where, and the figures of all sizes; raises what the stage raises, and Failed."""
    where = machine.describe(f"a stand-in of the API server, {options.replicas} replicas")
    points = []
    for bases in options.bases:
        with scale_stage(bases, options.replicas, options.logs) as built:
            points.append(asyncio.run(_point(built, options.seconds)))
    return where, [figure for point in points for figure in figures(point)] + growth(points)


async def _point(built: Stage, seconds: float) -> Point:
    async with line(built) as connected:
        empty = ours(connected.usage())
        await onboard(connected, ramp=RAMP)
        used = ours(connected.usage())
        rest = await quiet(connected, seconds)
        full = ours(connected.usage())
    return Point(
        built.bases,
        {name: used[name].cpu - empty[name].cpu for name in used},
        rest,
        shared(rest.cores),
        full["control plane"].resident - empty["control plane"].resident,
    )


def shared(cores: Mapping[str, float]) -> dict[str, float]:
    """Return the cores of the control plane, all replicas together, and of the gateway."""
    return {"control plane": sum(cores[name] for name in cores if _replica(name)), "gateway": cores["gateway"]}


def ours(usage: Mapping[str, Usage]) -> dict[str, Usage]:
    """Return what the control plane uses, all replicas together, and what the gateway does."""
    replicas = [used for name, used in usage.items() if _replica(name)]
    whole = Usage(sum(each.cpu for each in replicas), sum(each.resident for each in replicas))
    return {"control plane": whole, "gateway": usage["gateway"]}


def figures(point: Point) -> list[Figure]:
    """Return what each of so many bases costs, and what the processes used."""
    bases, found = point.bases, []
    for name, share in point.cores.items():
        at_rest, limit = 60e3 * share / bases, 60e3 * targets.CORES_PER_BASE[name]
        onboarded = 1e3 * point.onboarded[name] / bases
        found += [
            Figure(f"{bases} bases: CPU of {name} per base and minute", at_rest, "ms", limit, f"{share:.3f} cores"),
            Figure(f"  {name} per base onboarded", onboarded, "ms", targets.ONBOARDING_MS[name]),
        ]
    writes = sum(point.rest.metrics.writes().values()) / (bases * point.rest.took / 60)
    busy = ", ".join(f"{name} {share:.2f}" for name, share in point.rest.cores.items() if share >= BUSY)
    return [
        *found,
        Figure("  memory of control plane per VNode", point.grown / bases / 1e3, "KB", targets.VNODE_BYTES / 1e3),
        Figure("  API writes per VNode and minute", writes, "1/min", note="6 are renewals on time"),
        *(
            Figure(f"  CPU of {name}", share, "cores", note="not ours")
            for name, share in point.rest.cores.items()
            if name in (STAND_IN, "bases")
        ),
        *([Figure("  processes that may be at their limit", busy.count(",") + 1, "1", note=busy)] if busy else []),
    ]


def growth(points: Sequence[Point]) -> list[Figure]:
    """Return with which power of the number of bases each cost grows; nothing of one size."""
    if len({point.bases for point in points}) < 2:
        return []
    found = []
    for name in ("control plane", "gateway"):
        at_rest = exponent([(point.bases, point.cores[name]) for point in points])
        onboarded = exponent([(point.bases, point.onboarded[name]) for point in points])
        found += [
            Figure(f"exponent: CPU of {name} at rest", at_rest, "1", targets.EXPONENT),
            Figure(f"exponent: CPU of {name} for onboarding", onboarded, "1", targets.EXPONENT),
        ]
    memory = exponent([(point.bases, point.grown) for point in points])
    return [*found, Figure("exponent: memory of control plane", memory, "1", targets.EXPONENT)]


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return k of cost = c * size**k by least squares of logarithms; nan where that cannot be fitted."""
    logs = [(math.log(size), math.log(cost)) for size, cost in points if size > 0 and cost > 0]
    if not logs:
        return math.nan
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread if spread else math.nan


@contextmanager
def scale_stage(bases: int, replicas: int, logs: Path | None) -> Iterator[Stage]:
    """Build it, and take it down; raises ServerFailed, OSError."""
    say(f"{bases} bases: starting the stand-in of the API server")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Programs(logs or Path(folder)) as programs:
        port = programs.port()
        root = f"http://127.0.0.1:{port}"
        environ = {"PYTHONPATH": str(ROOT)}
        process = programs.program("stand-in", "benchmarks.standin", "--port", str(port), environ=environ)
        process.start()
        process.wait_until(lambda: status(f"{root}/version") == 200, within=STARTED_WITHIN)
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(root)))
        server = ApiServer(
            version=STAND_IN,
            root=root,
            environ={"CLUSTER": "kubernetes", "NAMESPACE": "koupleless-system", "KUBECONFIG": str(kubeconfig)},
            pids={STAND_IN: process.pid},
        )
        yield build(programs, server, trusted.plaintext(programs.folder), bases, replicas, "benchmarks.lean_bases")
        say("taking everything down")


def _replica(name: str) -> bool:
    return name == "control plane" or name.startswith("cp-")


def _kubeconfig(root: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "all",
        "clusters": [{"name": "all", "cluster": {"server": root}}],
        "users": [{"name": "all", "user": {}}],
        "contexts": [{"name": "all", "context": {"cluster": "all", "user": "all"}}],
    }
