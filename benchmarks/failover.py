"""What it takes that VNodes change their owner: kill -9, SIGTERM, one that joins; and what replicas cost at rest."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks import targets
from benchmarks.api import Api, Failed, Json, Sightings, gone
from benchmarks.exposition import Exposition
from benchmarks.figures import Figure, percentile
from benchmarks.install import RAMP_PER_BASE
from benchmarks.onboarding import onboard
from benchmarks.progress import say
from benchmarks.stage import NODES, Line
from tests.programs import ControlPlane

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
TAKEN_WITHIN = 120.0
BALANCED_WITHIN = 180.0
BALANCED = 1.10
"""Of the mean, what the busiest replica may own."""
SETTLE = 10.0
TERMS = 5
"""How often a replica is asked to end."""


class Owners:
    """Who holds the lease of each VNode, as a watch gives it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._holders: dict[str, str] = {}
        self._changed = asyncio.Event()

    def of(self, replica: str) -> frozenset[str]:
        """Return the VNodes that a replica owns."""
        return frozenset(name for name, holder in self._holders.items() if holder == replica)

    def owned(self) -> Counter[str]:
        """Return how many VNodes each replica owns."""
        return Counter(self._holders.values())

    async def wait(self, done: Callable[[], bool], *, within: float, what: str) -> float:
        """Return the monotonic time at which done was true; raises Failed."""
        try:
            async with asyncio.timeout(within):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Failed(f"not within {within:g} s: {what}; owned: {dict(self.owned())}") from None
        return time.monotonic()

    async def run(self) -> None:
        """Follow the leases."""
        while True:
            listed = await self._api.get(LEASES)
            self._holders = {}
            for obj in listed["items"]:
                self._see("ADDED", obj)
            async for kind, obj in self._api.watch(LEASES, str(listed["metadata"]["resourceVersion"])):
                if kind == "ERROR":
                    break
                self._see(kind, obj)

    def _see(self, kind: str, obj: Json) -> None:
        name = obj["metadata"]["name"]
        if not name.startswith("vnode."):
            return
        if kind == "DELETED":
            self._holders.pop(name, None)
        else:
            self._holders[name] = obj["spec"].get("holderIdentity", "")
        self._changed.set()


class Replicas:
    """The control planes that run; one that ended is followed by another of a new name, as Pods of a Deployment are."""

    def __init__(self, line: Line) -> None:
        self._add = line.stage.add_replica
        self.running: dict[str, ControlPlane] = dict(line.stage.replicas)
        self._next = len(self.running)

    async def end(self, name: str, how: signal.Signals) -> None:
        """Send the signal, and return."""
        self.running.pop(name).server.signal(how)

    async def join(self) -> tuple[str, float]:
        """Start one more; return its name and when it was ready."""
        name = f"cp-{self._next}"
        self._next += 1
        self.running[name] = await asyncio.to_thread(self._add, name)
        return name, time.monotonic()

    def balanced(self, owners: Owners) -> bool:
        """Tell whether no replica owns much more than the mean."""
        owned = owners.owned()
        mean = sum(owned.values()) / len(self.running)
        return owned.keys() == self.running.keys() and max(owned.values()) <= max(BALANCED * mean, mean + 1)


async def measure(line: Line, *, kills: int, seconds: float) -> list[Figure]:
    """Return the figures; raises Failed."""
    bases = line.stage.bases
    await onboard(line, ramp=RAMP_PER_BASE * bases)
    async with _followed(line) as owners, Sightings(line.kube, NODES, {"gone": gone}) as nodes:
        replicas = Replicas(line)
        await owners.wait(lambda: replicas.balanced(owners), within=BALANCED_WITHIN, what="VNodes shared evenly")
        await asyncio.sleep(SETTLE)
        rest = await _rest(line, seconds)
        takeovers, joins = [], []
        for number in range(kills):
            took, joined = await _replaced(owners, replicas, signal.SIGKILL)
            takeovers.append(took)
            joins.append(joined)
            say(f"kill {number + 1} of {kills}: owned again in {took:.2f} s, even {joined:.1f} s after the next joined")
        handovers = []
        for number in range(TERMS):
            took, joined = await _replaced(owners, replicas, signal.SIGTERM)
            handovers.append(took)
            joins.append(joined)
            say(f"SIGTERM {number + 1} of {TERMS}: owned again after {took:.2f} s")
        removed = len(nodes.times["gone"])
    return [
        *rest,
        Figure("kill -9 -> all owned again p50", percentile(takeovers, 0.5), "s", targets.TAKEOVER_P50_SECONDS),
        Figure("kill -9 -> all owned again p99", percentile(takeovers, 0.99), "s", targets.TAKEOVER_P99_SECONDS),
        Figure("kill -9 -> all owned again, longest", max(takeovers), "s", note=f"of {kills} kills"),
        Figure("SIGTERM -> all owned again, longest", max(handovers), "s", targets.HANDOVER_SECONDS, f"of {TERMS}"),
        Figure("joined -> even, longest", max(joins), "s", targets.BALANCE_SECONDS, f"of {len(joins)}"),
        Figure("Nodes deleted meanwhile", removed, "1", note="must be 0"),
    ]


async def _rest(line: Line, seconds: float) -> list[Figure]:
    say(f"at rest for {seconds:g} s")
    before = [await line.metrics(name) for name in line.stage.replicas]
    began = time.monotonic()
    await asyncio.sleep(seconds)
    after = [await line.metrics(name) for name in line.stage.replicas]
    minutes = line.stage.bases * (time.monotonic() - began) / 60
    metrics: list[Exposition] = [now.since(then) for now, then in zip(after, before, strict=True)]
    writes = sum(sum(each.writes().values()) for each in metrics)
    name = f"API writes per VNode and minute, {len(metrics)} replicas"
    return [Figure(name, writes / minutes, "1/min", targets.WRITES_PER_VNODE_MINUTE, f"within {seconds:g} s")]


async def _replaced(owners: Owners, replicas: Replicas, how: signal.Signals) -> tuple[float, float]:
    """End the replica that owns most and start another; return how long owning and evening out took."""
    victim, _ = owners.owned().most_common(1)[0]
    theirs = owners.of(victim)
    began = time.monotonic()
    await replicas.end(victim, how)
    what = f"the {len(theirs)} VNodes of {victim} owned by others"
    taken = await owners.wait(lambda: not owners.of(victim), within=TAKEN_WITHIN, what=what)
    _, joined = await replicas.join()
    even = await owners.wait(lambda: replicas.balanced(owners), within=BALANCED_WITHIN, what="VNodes shared evenly")
    return taken - began, even - joined


@asynccontextmanager
async def _followed(line: Line) -> AsyncIterator[Owners]:
    owners = Owners(line.kube)
    task = asyncio.create_task(owners.run())
    try:
        yield owners
    finally:
        task.cancel()
        await asyncio.wait((task,))
