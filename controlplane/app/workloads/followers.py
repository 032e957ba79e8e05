"""The module deployment controller: replicas of "peer" Deployments follow the number of bases.

Changes of Nodes, Pods and Deployments only wake it; after a moment one pass takes all of them together. Each replica
keeps the counts of all Deployments, so that it can go on where another one left, and writes to those for which ``mine``
is true.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.changes import Subscription, synced
from controlplane.app.events import Recorder
from controlplane.app.metrics import PEER_CHANGES, PEER_DEPLOYMENTS, PEER_HELD, WRITES
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster, ClusterError, Conflict, NotFound, Rejected
from controlplane.app.repairs import repaired
from controlplane.app.roster import Roster
from controlplane.domain.backoff import Backoff
from controlplane.domain.objects import ModuleDeployment
from controlplane.domain.remarks import Remark
from controlplane.domain.repairs import Repairs
from controlplane.domain.workloads.deployments import Demand, peer_demand
from controlplane.domain.workloads.followers import Census, Count, Peak, has_pod, replicas_for

log = structlog.get_logger(__name__)

TOGETHER = 0.3
"""Seconds from the first change to the pass that takes it, with all that came meanwhile."""
LOOK_AGAIN = 10.0
"""Seconds after which a pass is made without a change: outages end, and replicas come and go, unannounced."""
WRITES_AT_ONCE = 8
RETRY = Backoff(first=1.0, longest=60.0)


@dataclass(slots=True)
class Followed:
    """One Deployment; peak is the most VNodes that it had lately."""

    uid: str
    census: Census
    peak: Peak
    attempts: int = 0
    not_before: float = 0.0
    repairs: Repairs = field(default_factory=Repairs)
    writing: bool = False


@dataclass(kw_only=True)
class FollowerScaling:
    """Follows the bases of one environment.

    mine says, by namespace/name, whether this replica writes to a Deployment; while replicas disagree on that the
    resource version decides.
    """

    cluster: Cluster
    clock: Clock
    recorder: Recorder
    policy: Policy
    random: Random
    roster: Roster
    mine: Callable[[str], bool]
    _followed: dict[str, Followed] = field(default_factory=dict)
    _censuses: dict[Demand, Census] = field(default_factory=dict)
    _changed: Subscription[str] = field(default_factory=Subscription)
    """Names of Nodes, and namespace/name of Deployments."""
    _reliable_since: float | None = None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WRITES_AT_ONCE))

    def __post_init__(self) -> None:
        self.cluster.nodes.subscribe(self._changed.note)
        self.cluster.deployments.subscribe(self._changed.note)
        self.cluster.pods.subscribe_node(self._pods_changed)

    async def run(self) -> NoReturn:
        """Keep all replicas as they should be; writes that fail are tried again, until cancelled."""
        await synced(self.cluster.nodes, self.cluster.deployments, self.cluster.pods)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(TOGETHER)
                await self._changed.wait(self._pass(group))

    def _pass(self, group: asyncio.TaskGroup) -> float:
        """Take what changed and write what differs; return the seconds after which to look again by itself."""
        now, changed = self.clock.monotonic(), self._changed.take()
        self._take_nodes(name for name in changed if "/" not in name)
        self._take_deployments(name for name in changed if "/" in name)
        may_lower = self._may_lower(now)
        again, mine, held = now + LOOK_AGAIN, 0, 0
        for key, followed in self._followed.items():
            deployment = self.cluster.deployments.get(key)
            if deployment is None:
                continue
            count = self._count(deployment, followed.census)
            followed.peak.set(now, count.present)
            peak = followed.peak.at(now)
            if followed.peak.next_at is not None:
                again = min(again, followed.peak.next_at)
            if not self.mine(key):
                continue
            mine += 1
            wanted = replicas_for(deployment.replicas, ready=count.ready, peak=peak, may_lower=may_lower)
            held += wanted > peak
            if wanted == (1 if deployment.replicas is None else deployment.replicas) or followed.writing:
                continue
            held_until = max(followed.not_before, followed.repairs.held_until(wanted))
            if now < held_until:
                again = min(again, held_until)
                continue
            followed.writing = True
            group.create_task(self._scale(deployment, followed, wanted, count), name=f"scale-{key}")
        PEER_DEPLOYMENTS.set(mine)
        PEER_HELD.set(held)
        return max(again - now, 0.0)

    def _take_nodes(self, names: Iterable[str]) -> None:
        for name in names:
            node = self.cluster.nodes.get(name)
            for census in self._censuses.values():
                census.take(name, node)

    def _take_deployments(self, keys: Iterable[str]) -> None:
        for key in keys:
            deployment = self.cluster.deployments.get(key)
            demand = peer_demand(deployment, self.policy.env) if deployment is not None else None
            if deployment is None or demand is None:
                self._followed.pop(key, None)
            else:
                self._follow(key, deployment, demand)
        used = {id(followed.census) for followed in self._followed.values()}
        self._censuses = {demand: census for demand, census in self._censuses.items() if id(census) in used}

    def _follow(self, key: str, deployment: ModuleDeployment, demand: Demand) -> None:
        known = self._followed.get(key)
        if known is not None and known.uid == deployment.uid and known.census.demand == demand:
            return
        census = self._censuses.get(demand)
        if census is None:
            census = self._censuses[demand] = Census(demand, self.cluster.nodes.all())
        count = self._count(deployment, census)
        self._followed[key] = Followed(deployment.uid, census, Peak(self.policy.scale_down_delay, count.present))
        log.info("deployment follows the bases", deployment=key, ready=count.ready, present=count.present)

    def _count(self, deployment: ModuleDeployment, census: Census) -> Count:
        kept = [name for name in census.closed if has_pod(deployment, self.cluster.pods.on_node(name))]
        return census.count(kept)

    def _may_lower(self, now: float) -> bool:
        """Return whether what is known of the bases has been current for as long as a base that is gone counts."""
        if self.cluster.trouble() is not None or self.roster.outages.now.removals_frozen:
            self._reliable_since = None
            return False
        if self._reliable_since is None:
            self._reliable_since = now
        return now - self._reliable_since >= self.policy.scale_down_delay

    async def _scale(self, deployment: ModuleDeployment, followed: Followed, wanted: int, count: Count) -> None:
        had = deployment.replicas
        message = f"replicas {had} -> {wanted}: {count.present} bases take its Pods, {count.ready} of them ready"
        try:
            async with self._slots:
                WRITES.labels("deployment-scale").inc()
                await self.cluster.scale_deployment(deployment, wanted)
        except (Conflict, NotFound):
            # It changed meanwhile, or is gone: the informer has it soon.
            self._again_later(followed)
        except ClusterError as error:
            self._again_later(followed)
            PEER_CHANGES.labels("failed").inc()
            if isinstance(error, Rejected):
                self.recorder.deployment(
                    deployment, Remark(True, "PeerReplicasNotChanged", f"{message}; refused: {error}")
                )
            else:
                log.warning("replicas not changed", deployment=deployment.key, wanted=wanted, cause=str(error))
        else:
            followed.attempts, followed.not_before = 0, 0.0
            times = followed.repairs.written(wanted, self.clock.monotonic(), self.random.random())
            repaired("deployment-scale", times, partial(self.recorder.deployment, deployment))
            PEER_CHANGES.labels("up" if wanted > (had or 0) else "down").inc()
            self.recorder.deployment(deployment, Remark(wanted == 0, "PeerReplicasChanged", message))
        finally:
            followed.writing = False
            self._changed.nudge()

    def _again_later(self, followed: Followed) -> None:
        followed.attempts += 1
        followed.not_before = self.clock.monotonic() + RETRY.delay(followed.attempts, self.random.random())

    def _pods_changed(self, node: str) -> None:
        if any(node in census.closed for census in self._censuses.values()):
            self._changed.nudge()
