"""A rollout: M modules on each of N bases, all at once, until every Pod is Ready.

Pods are bare and bound (nodeName set), so that the API server stores each once and no scheduler is waited for; or M
DaemonSets make them, and the scheduler binds them. A bare client first does the same to the API server without us: it
creates as many Pods and patches the status of each once.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet

from benchmarks import targets
from benchmarks.api import CONNECTIONS, Api, Json, Sightings, ready
from benchmarks.exposition import WRITE_VERBS
from benchmarks.figures import Figure, spread
from benchmarks.install import RAMP_PER_BASE, SETTLE, Module, arrived, bound_pod, histogram, plan
from benchmarks.onboarding import cpu, latency, onboard, writes_per
from benchmarks.progress import say
from benchmarks.stage import NODES, PODS, Line, identities

DONE_WITHIN = 900.0
DAEMON_SETS = "/apis/apps/v1/namespaces/default/daemonsets"
BARE_NODE = "bare"


async def measure(line: Line, *, modules: int, daemon_sets: bool, baseline: bool) -> list[Figure]:
    """Install so many modules on each base; raises Failed."""
    await onboard(line, ramp=RAMP_PER_BASE * line.stage.bases)
    say(f"all Nodes Ready; waiting {SETTLE:g} s until only the usual happens")
    await asyncio.sleep(SETTLE)
    work = plan(identities(line.stage.bases), modules * line.stage.bases)
    alone = await _bare_client(line.kube, work) if baseline else None
    figures = await _rolled_out(line, work, modules if daemon_sets else 0)
    return figures if alone is None else [*figures, *_beside(alone, figures[0].value)]


async def _rolled_out(line: Line, work: Sequence[Module], daemon_sets: int) -> list[Figure]:
    count = len(work)
    metrics, used = await line.metrics(), line.usage()
    marks = {"bound": lambda _, obj: "nodeName" in obj["spec"], "ready": ready}
    async with Sightings(line.kube, PODS, marks) as pods:
        began = time.monotonic()
        if daemon_sets:
            say(f"creating {daemon_sets} DaemonSets for {count} Pods")
            for number in range(daemon_sets):
                await line.kube.post(DAEMON_SETS, daemon_set(f"biz{number}"))
        else:
            say(f"creating {count} bound Pods")
            await _each(work, lambda module: line.kube.post(PODS, bound_pod(module)))
        asked = time.monotonic() - began
        await pods.wait("ready", count, within=DONE_WITHIN, what="Pods Ready")
    took = max(pods.times["ready"].values()) - began
    used_after, metrics = line.usage(), (await line.metrics()).since(metrics)
    bound = max(pods.times["bound"].values()) - began
    at_base = await arrived(line, "installBiz")
    shares = [] if daemon_sets else [at_base[m.base, m.name] - pods.times["bound"][m.pod] for m in work]
    return [
        Figure(
            "all asked for -> all Pods Ready",
            took,
            "s",
            targets.ROLLOUT_SECONDS_PER_MODULE * count,
            f"{count} Pods, {count / took:.0f} each second",
        ),
        Figure("  of that until the last was asked for", asked, "s", note="the API server's time to take them"),
        Figure("  of that until the last was seen bound", bound, "s"),
        *spread("Pod seen bound -> command at base", shares, target=targets.BOUND_TO_COMMAND_MS),
        *histogram(metrics, "koupleless_pod_bound_to_order_seconds", "bound at control plane -> order sent"),
        *histogram(metrics, "koupleless_result_to_status_seconds", "result taken -> status written"),
        *writes_per(metrics, count, "install"),
        *audited(line.stage.audited(), {module.pod for module in work}),
        *_by_kind(metrics.by("koupleless_cluster_writes_total", "what"), count),
        *latency(metrics),
        *cpu(used, used_after, "in the rollout"),
    ]


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
        if times and what != "lease-renew"
    ]


async def _bare_client(kube: Api, work: Sequence[Module]) -> float:
    """Return the seconds in which a bare client creates as many Pods and patches each one's status once."""
    say(f"baseline: a bare client creates {len(work)} Pods and patches each one's status")
    await kube.post(NODES, {"metadata": {"name": BARE_NODE}})

    async def once(module: Module) -> None:
        pod = bound_pod(module)
        pod["metadata"] = {"name": f"bare-{module.pod}"}
        pod["spec"]["nodeName"] = BARE_NODE
        await kube.post(PODS, pod)
        await kube.patch(f"{PODS}/bare-{module.pod}/status", _running(module))

    began = time.monotonic()
    await _each(work, once)
    took = time.monotonic() - began
    say(f"baseline: {took:.1f} s; removing its Pods")
    await kube.call("DELETE", f"{NODES}/{BARE_NODE}")
    await _each(work, lambda module: kube.call("DELETE", f"{PODS}/bare-{module.pod}", {"gracePeriodSeconds": 0}))
    await asyncio.sleep(SETTLE)
    return took


async def _each(work: Sequence[Module], act: Callable[[Module], Awaitable[object]]) -> None:
    """Act on each module as fast as the connections allow; raises Failed."""
    left = iter(work)

    async def worker() -> None:
        for module in left:
            await act(module)

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


def _running(module: Module) -> Json:
    conditions = [{"type": kind, "status": "True"} for kind in ("Initialized", "ContainersReady", "Ready")]
    container = {
        "name": module.name,
        "ready": True,
        "image": "",
        "imageID": "",
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }
    return {"status": {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}}


def _beside(alone: float, ours: float) -> list[Figure]:
    return [
        Figure("a bare client: as many Pods created, each status patched once", alone, "s"),
        Figure("ours as a multiple of that", ours / alone, "1"),
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
