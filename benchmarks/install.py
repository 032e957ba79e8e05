"""Our share of an install: Pod seen bound -> command at the base, result of the base -> Pod status written.

Pods are created bound (nodeName set), evenly over bases and time; simulated bases install in no time. Then the Pods are
deleted, at the same rate.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import targets
from benchmarks.api import Sightings, gone, ready
from benchmarks.exposition import Exposition
from benchmarks.figures import Figure, number, spread
from benchmarks.modules import Module, bound_pod, plan
from benchmarks.onboarding import cpu, latency, onboard, writes_per
from benchmarks.progress import say
from benchmarks.stage import PODS, Line, identities

RAMP_PER_BASE = 0.012
"""Seconds between two bases' first heartbeats, so that 1,000 send them evenly over the 12 s of an interval."""
SETTLE = 15.0
DONE_WITHIN = 300.0


async def measure(line: Line, *, modules: int, rate: float) -> list[Figure]:
    """Install and uninstall so many modules, rate of them each second, 0 for all at once; raises Failed."""
    await onboard(line, ramp=RAMP_PER_BASE * line.stage.bases)
    say(f"all Nodes Ready; waiting {SETTLE:g} s until only the usual happens")
    await asyncio.sleep(SETTLE)
    work = plan(identities(line.stage.bases), modules)
    return [*await _install(line, work, rate), *await _uninstall(line, work, rate)]


async def _install(line: Line, work: list[Module], rate: float) -> list[Figure]:
    metrics, used = await line.metrics(), line.usage()
    marks = {"bound": lambda kind, _: kind == "ADDED", "ready": ready}
    async with Sightings(line.kube, PODS, marks) as pods:
        say(f"creating {len(work)} bound Pods")
        acts = await at_rate(work, rate, lambda module: line.kube.post(PODS, bound_pod(module)))
        await pods.wait("ready", len(work), within=DONE_WITHIN, what="Pods Ready")
    used_after, metrics = line.usage(), (await line.metrics()).since(metrics)
    took = max(pods.times["ready"].values()) - min(acts.sent.values())
    at_base = await arrived(line, "installBiz")
    posts = [acts.answered[module.pod] - acts.sent[module.pod] for module in work]
    asked = [at_base[module.base, module.name] - acts.sent[module.pod] for module in work]
    shares = [at_base[module.base, module.name] - pods.times["bound"][module.pod] for module in work]
    statuses = [pods.times["ready"][module.pod] - at_base[module.base, module.name] for module in work]
    wholes = [pods.times["ready"][module.pod] - acts.sent[module.pod] for module in work]
    return [
        Figure("modules installed", len(work), "1", note=f"within {took:.1f} s, {len(work) / took:.0f} each second"),
        *spread("creation of Pod asked -> answered, by the API server alone", posts),
        *spread("creation of Pod asked -> command at base", asked),
        *spread("Pod seen bound -> command at base", shares, target=targets.BOUND_TO_COMMAND_MS),
        *histogram(metrics, "koupleless_pod_bound_to_order_seconds", "seen bound -> order sent"),
        *spread("command at base -> Pod seen Ready", statuses),
        *histogram(
            metrics,
            "koupleless_result_to_status_seconds",
            "result taken -> status written",
            target=targets.RESULT_TO_STATUS_MS,
            of_it=_server_time(metrics, "pods/status"),
        ),
        *spread("creation of Pod asked -> Pod seen Ready", wholes),
        *writes_per(metrics, len(work), "install"),
        *latency(metrics),
        *cpu(used, used_after, "while installing"),
    ]


async def _uninstall(line: Line, work: list[Module], rate: float) -> list[Figure]:
    await asyncio.sleep(SETTLE)
    metrics = await line.metrics()
    async with Sightings(line.kube, PODS, {"gone": gone}) as pods:
        say(f"deleting {len(work)} Pods")
        acts = await at_rate(work, rate, lambda module: line.kube.call("DELETE", f"{PODS}/{module.pod}"))
        await pods.wait("gone", len(work), within=DONE_WITHIN, what="Pods gone")
    metrics = (await line.metrics()).since(metrics)
    at_base = await arrived(line, "uninstallBiz")
    shares = [at_base[module.base, module.name] - acts.sent[module.pod] for module in work]
    wholes = [pods.times["gone"][module.pod] - acts.sent[module.pod] for module in work]
    return [
        *spread("deletion of Pod asked -> command at base", shares),
        *spread("deletion of Pod asked -> Pod gone", wholes),
        *writes_per(metrics, len(work), "uninstall"),
        *latency(metrics),
    ]


@dataclass(frozen=True)
class Acts:
    """Monotonic times, by Pod, at which requests were sent and answered."""

    sent: Mapping[str, float]
    answered: Mapping[str, float]


async def at_rate(work: Sequence[Module], rate: float, act: Callable[[Module], Awaitable[object]]) -> Acts:
    """Act on each module when its turn comes, whether or not earlier acts have ended."""
    began = time.monotonic()
    sent: dict[str, float] = {}
    answered: dict[str, float] = {}

    async def one(module: Module) -> None:
        sent[module.pod] = time.monotonic()
        await act(module)
        answered[module.pod] = time.monotonic()

    async with asyncio.TaskGroup() as group:
        for number, module in enumerate(work):
            due = began + number / rate if rate else began
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(one(module))
    return Acts(sent, answered)


async def arrived(line: Line, verb: str, *, since: float = 0.0) -> dict[tuple[str, str], float]:
    """Return when the first command of a kind since then for each base and module arrived."""
    found: dict[tuple[str, str], float] = {}
    for command in await line.fleet.get("/admin/commands"):
        if command["verb"] == verb and command["at"] >= since:
            found.setdefault((command["base"], command["body"]["bizName"]), command["at"])
    return found


def histogram(
    metrics: Exposition, name: str, words: str, *, target: float | None = None, of_it: str = ""
) -> list[Figure]:
    """Return p50 and p99 of a histogram of the control plane; the target is one of p99, in milliseconds.

    of_it says what is a part of it.
    """
    p50, p99 = (1000 * metrics.quantile(name, share) for share in (0.5, 0.99))
    note = f"histogram of the control plane, {metrics.count(name):.0f} observations"
    return [
        Figure(f"{words} p50", p50, "ms", None, note),
        Figure(f"{words} p99", p99, "ms", target, of_it or note),
    ]


def _server_time(metrics: Exposition, resource: str) -> str:
    """Say how long the API server took for the patches of a resource."""
    of = {"verb": "patch", "resource": resource}
    p50, p99 = (1000 * metrics.quantile("koupleless_api_request_seconds", share, of) for share in (0.5, 0.99))
    return f"of it the API server's own, p50 / p99: {number(p50)} / {number(p99)} ms"
