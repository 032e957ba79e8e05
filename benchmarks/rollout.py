"""A rollout: M modules on each of N bases, all at once, until every Pod is Ready; then all of them are deleted.

Pods are bare and bound (nodeName set), so that the API server stores each once and no scheduler is waited for; or M
DaemonSets make them, and the scheduler binds them. A bare client may do the same to the API server first.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from statistics import median_low
from typing import NamedTuple

from benchmarks import targets
from benchmarks.api import Json, Sightings, gone, ready
from benchmarks.bare import bare_client, multiple
from benchmarks.exposition import WRITE_VERBS, Exposition
from benchmarks.figures import Figure, spread
from benchmarks.install import RAMP_PER_BASE, SETTLE, arrived, histogram
from benchmarks.modules import Module, bound_pod, each, plan
from benchmarks.onboarding import OURS, RENEWALS, cpu, cpu_of_each, latency, onboard, writes_per
from benchmarks.progress import say
from benchmarks.stage import PODS, Line, identities
from benchmarks.usage import Usage

DONE_WITHIN = 900.0
DAEMON_SETS = "/apis/apps/v1/namespaces/default/daemonsets"


@dataclass(frozen=True)
class Work:
    """What is rolled out; without daemon_sets as Pods of their own."""

    modules: Sequence[Module]
    daemon_sets: Sequence[str]

    @property
    def count(self) -> int:
        """How many Pods."""
        return len(self.modules)


@dataclass
class _Rounds:
    """The seconds that each round took a bare client and ours, and the figures of ours."""

    bare: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    figures: list[Sequence[Figure]] = field(default_factory=list)

    def add(self, done: "Done") -> None:
        """Add a round of ours."""
        self.ours.append(done.seconds)
        self.figures.append(done.figures)

    def median(self) -> Sequence[Figure]:
        """Return the figures of the round in the middle, by its multiple where there is a bare client."""
        by = [one / other for one, other in zip(self.ours, self.bare, strict=True)] if self.bare else self.ours
        return self.figures[by.index(median_low(by))]


class Done(NamedTuple):
    """Seconds until all Pods were Ready or gone, milliseconds of CPU of each of our processes per module, figures."""

    seconds: float
    cpu: Mapping[str, float]
    figures: Sequence[Figure]


async def measure(line: Line, *, modules: int, daemon_sets: bool, baseline: bool, rounds: int) -> list[Figure]:
    """Install so many modules on each base, then uninstall them, a bare client and ours by turns.

    The figures are those of the round that took the median of the time. Raises Failed, ClusterError.
    """
    bases = line.stage.bases
    await settled_nodes(line)
    work = Work(
        plan(identities(bases), modules * bases),
        [f"biz{number}" for number in range(modules)] if daemon_sets else [],
    )
    installing, deleting = _Rounds(), _Rounds()
    for number in range(rounds):
        if rounds > 1:
            say(f"round {number + 1} of {rounds}")
        if baseline:
            created, deleted = await _bare(line, work.modules)
            installing.bare.append(created)
            deleting.bare.append(deleted)
        rest = await cores_at_rest(line)
        installing.add(await roll_out(line, work, rest))
        deleting.add(await delete(line, work, rest))
    figures = [*installing.median(), *deleting.median()]
    if not baseline:
        return figures
    return [
        multiple("rollout", installing.ours, installing.bare, targets.ROLLOUT_MULTIPLE),
        multiple("deletion", deleting.ours, deleting.bare, targets.DELETION_MULTIPLE),
        *figures,
    ]


async def settled_nodes(line: Line) -> None:
    """Return once all bases are Ready Nodes, and only the usual happens; raises Failed."""
    await onboard(line, ramp=RAMP_PER_BASE * line.stage.bases)
    say(f"all Nodes Ready; waiting {SETTLE:g} s until only the usual happens")
    await asyncio.sleep(SETTLE)


async def _bare(line: Line, modules: Sequence[Module]) -> tuple[float, float]:
    async with bare_client(line) as client:
        created = await client.roll_out(modules)
        await asyncio.sleep(SETTLE)
        deleted = await client.delete(modules)
    await asyncio.sleep(SETTLE)
    return created, deleted


async def cores_at_rest(line: Line) -> Mapping[str, float]:
    """Return the cores that each process uses while only the usual happens."""
    used, began = line.usage(), time.monotonic()
    await asyncio.sleep(SETTLE)
    took = time.monotonic() - began
    return {name: (after.cpu - used[name].cpu) / took for name, after in line.usage().items()}


async def _settled(line: Line, metrics: Exposition) -> tuple[Mapping[str, Usage], Exposition]:
    """Return what is used now, and what was counted since then once Events are written, too."""
    used = line.usage()
    await asyncio.sleep(SETTLE)
    return used, (await line.metrics()).since(metrics)


async def roll_out(line: Line, work: Work, rest: Mapping[str, float]) -> Done:
    """Create all Pods at once and return once all are Ready; raises Failed, ClusterError."""
    metrics, used = await line.metrics(), line.usage()
    marks = {"bound": lambda _, obj: "nodeName" in obj["spec"], "ready": ready}
    async with Sightings(line.kube, PODS, marks) as pods:
        began = time.monotonic()
        if work.daemon_sets:
            say(f"creating {len(work.daemon_sets)} DaemonSets for {work.count} Pods")
            for name in work.daemon_sets:
                await line.kube.post(DAEMON_SETS, daemon_set(name))
        else:
            say(f"creating {work.count} bound Pods")
            await each(work.modules, lambda module: line.kube.post(PODS, bound_pod(module)))
        asked = time.monotonic() - began
        await pods.wait("ready", work.count, within=DONE_WITHIN, what="Pods Ready")
    took = max(pods.times["ready"].values()) - began
    used_after, metrics = await _settled(line, metrics)
    bound = max(pods.times["bound"].values()) - began
    at_base = await arrived(line, "installBiz", since=began)
    shares = [] if work.daemon_sets else [at_base[m.base, m.name] - pods.times["bound"][m.pod] for m in work.modules]
    figures = [
        Figure(
            "all asked for -> all Pods Ready",
            took,
            "s",
            targets.ROLLOUT_SECONDS_PER_MODULE * work.count,
            f"{work.count} Pods, {work.count / took:.0f} each second",
        ),
        Figure("  of that until the last was asked for", asked, "s", note="the API server's time to take them"),
        Figure("  of that until the last was seen bound", bound, "s"),
        *spread("Pod seen bound -> command at base", shares),
        *histogram(metrics, "koupleless_pod_bound_to_order_seconds", "bound at control plane -> order sent"),
        *histogram(metrics, "koupleless_result_to_status_seconds", "result taken -> status written"),
        *writes_per(metrics, work.count, "install", targets.WRITES_PER_INSTALL),
        looks(metrics, work.count, "install"),
        *audited(line.stage.server.audited(), {module.pod for module in work.modules}),
        *_by_kind(metrics.by("koupleless_cluster_writes_total", "what"), work.count),
        *latency(metrics),
        *cpu_of_each(used, used_after, work.count, "module installed", targets.ROLLOUT_MS, rest, took),
        *cpu(used, used_after, "in the rollout"),
    ]
    return Done(took, _spent(used, used_after, work), figures)


def looks(metrics: Exposition, count: int, what: str) -> Figure:
    """Return how often actors looked at their bases."""
    total = sum(metrics.by("koupleless_actor_looks_total").values())
    return Figure(f"looks of actors per {what}", total / count, "1")


def _spent(before: Mapping[str, Usage], after: Mapping[str, Usage], work: Work) -> Mapping[str, float]:
    return {name: 1000 * (after[name].cpu - before[name].cpu) / work.count for name in OURS}


async def delete(line: Line, work: Work, rest: Mapping[str, float]) -> Done:
    """Delete all Pods at once and return once all are gone; raises Failed, ClusterError."""
    metrics, used = await line.metrics(), line.usage()
    async with Sightings(line.kube, PODS, {"gone": gone}) as pods:
        say(f"deleting {work.count} Pods")
        began = time.monotonic()
        if work.daemon_sets:
            await each(work.daemon_sets, lambda name: line.kube.call("DELETE", f"{DAEMON_SETS}/{name}"))
        else:
            await each(work.modules, lambda module: line.kube.call("DELETE", f"{PODS}/{module.pod}"))
        asked = time.monotonic() - began
        await pods.wait("gone", work.count, within=DONE_WITHIN, what="Pods gone")
    took = max(pods.times["gone"].values()) - began
    used_after, metrics = await _settled(line, metrics)
    figures = [
        Figure("deletion of all asked for -> all Pods gone", took, "s", note=f"{work.count / took:.0f} each second"),
        Figure("  of that until the last was asked for", asked, "s"),
        *writes_per(metrics, work.count, "uninstall", targets.WRITES_PER_UNINSTALL),
        looks(metrics, work.count, "uninstall"),
        *latency(metrics),
        *cpu_of_each(used, used_after, work.count, "module uninstalled", {}, rest, took),
        *cpu(used, used_after, "in the deletion"),
    ]
    return Done(took, _spent(used, used_after, work), figures)


def audited(events: Sequence[Json], pods: AbstractSet[str]) -> list[Figure]:
    """Return writes by kind, and the most status writes of one Pod, from an audit log; nothing of an empty one."""
    if not events:
        return []
    kinds: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for event in events:
        of = event["objectRef"]
        what = "/".join(filter(None, (of["resource"], of.get("subresource"))))
        if event["verb"] not in WRITE_VERBS or event["responseStatus"]["code"] >= 300 or what == "leases":
            continue
        kinds[f"{event['verb']} {what}"] += 1
        if what == "pods/status" and of["name"] in pods:
            statuses[of["name"]] += 1
    per_pod = Counter(statuses.values())
    note = ", ".join(f"{count} Pods with {times}" for times, count in sorted(per_pod.items()))
    return [
        *(Figure(f"audit log: {kind}", count, "1") for kind, count in sorted(kinds.items())),
        Figure("audit log: status writes of one Pod, at most", max(statuses.values(), default=0), "1", 2.0, note),
    ]


def _by_kind(asked: dict[tuple[str, ...], float], count: int) -> list[Figure]:
    return [
        Figure(f"  {what} per install", times / count, "1", 1.0 if what == "pod-status" else None)
        for (what,), times in sorted(asked.items())
        if times and what not in RENEWALS
    ]


def daemon_set(module: str) -> Json:
    """Return a DaemonSet that puts a module on every VNode."""
    pod = bound_pod(Module("", module, module))
    del pod["spec"]["nodeName"]
    component = "virtual-kubelet.koupleless.io/component"
    labels = pod["metadata"]["labels"] | {"app": module}
    return {
        "metadata": {"name": module},
        "spec": {
            "selector": {"matchLabels": {"app": module}},
            "template": {
                "metadata": {"labels": labels},
                "spec": pod["spec"] | {"nodeSelector": {component: "vnode"}},
            },
        },
    }
