"""Releases of Deployments in batches: carries out what ``domain.workloads.release`` decides.

Changes of Deployments and Pods only wake it. Everything that it goes by is in the cluster, so that each replica can go
on where another one left; one replica acts for each Deployment.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.changes import Subscription, synced
from controlplane.app.events import Recorder
from controlplane.app.metrics import RELEASE_STEPS, RELEASES, WRITES
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster, ClusterError, Conflict, NotFound, Rejected
from controlplane.app.repairs import repaired
from controlplane.domain.backoff import Backoff
from controlplane.domain.contract import (
    ANNOTATION_ABORT,
    ANNOTATION_CONFIRMED,
    ANNOTATION_RELEASE,
    CONDITION_RELEASED,
    ENV,
)
from controlplane.domain.objects import Condition, ModuleDeployment, Pod
from controlplane.domain.remarks import Remark
from controlplane.domain.repairs import Repairs
from controlplane.domain.revisions import Releasing
from controlplane.domain.workloads.batches import deployment_of, settings
from controlplane.domain.workloads.release import Situation, Step, advance, begin, read, written

log = structlog.get_logger(__name__)

TOGETHER = 0.2
"""Seconds from the first change to the pass that takes it, with all that came meanwhile."""
LOOK_AGAIN = 10.0
"""Seconds after which a pass is made without a change: replicas come and go unannounced."""
AT_ONCE = 8
"""Deployments."""
PODS_AT_ONCE = 64
"""Pods of one Deployment."""
RETRY = Backoff(first=0.5, longest=30.0)


@dataclass(slots=True)
class _Release:
    """One Deployment; pods are the keys of its Pods, and touched is whether something changed since the last step."""

    pods: set[str]
    attempts: int = 0
    next_at: float = 0.0
    busy: bool = False
    touched: bool = True
    refused: str = ""
    said: Repairs = field(default_factory=Repairs)
    released: Repairs = field(default_factory=Repairs)


@dataclass(kw_only=True)
class BatchedReleases:
    """Releases the Deployments of one environment. mine says, by namespace/name, for which this replica acts."""

    cluster: Cluster
    clock: Clock
    recorder: Recorder
    policy: Policy
    random: Random
    mine: Callable[[str], bool]
    _releases: dict[str, _Release] = field(default_factory=dict)
    _changed: Subscription[str] = field(default_factory=Subscription)
    """namespace/name of Deployments."""
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def __post_init__(self) -> None:
        self.cluster.deployments.subscribe(self._changed.note)
        self.cluster.pods.subscribe(self._pod_changed)

    async def run(self) -> NoReturn:
        """Release, until cancelled; writes that fail are tried again."""
        await synced(self.cluster.deployments, self.cluster.pods)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(TOGETHER)
                await self._changed.wait(self._pass(group))

    def _pod_changed(self, key: str) -> None:
        pod = self.cluster.pods.get(key)
        of = deployment_of(pod) if pod is not None else ""
        if (release := self._releases.get(of)) is not None:
            release.pods.add(key)
            self._changed.note(of)
        for name, release in self._releases.items() if pod is None else ():
            if key in release.pods:
                release.pods.remove(key)
                self._changed.note(name)

    def _pass(self, group: asyncio.TaskGroup) -> float:
        """Begin the work on what changed or is due; return the seconds after which to look again by itself."""
        now, changed = self.clock.monotonic(), self._changed.take()
        for key in changed:
            self._take(key)
        again, mine = now + LOOK_AGAIN, 0
        for key, release in self._releases.items():
            deployment = self.cluster.deployments.get(key)
            if deployment is None or deployment.releasing is None or not self.mine(key):
                continue
            mine += 1
            release.touched = release.touched or key in changed
            due = now if release.touched and not release.attempts else release.next_at
            if release.busy or due > now:
                again = again if release.busy else min(again, due)
                continue
            release.busy, release.touched = True, False
            group.create_task(self._advance(deployment, deployment.releasing, release), name=f"release-{key}")
        RELEASES.set(mine)
        return max(again - now, 0.0)

    def _take(self, key: str) -> None:
        deployment = self.cluster.deployments.get(key)
        ours = deployment is not None and deployment.labels.get(ENV) == self.policy.env
        if deployment is None or deployment.releasing is None or not ours:
            self._releases.pop(key, None)
        elif key not in self._releases:
            pods = {pod.key for pod in self.cluster.pods.all() if deployment_of(pod) == key}
            self._releases[key] = _Release(pods)

    async def _advance(self, deployment: ModuleDeployment, releasing: Releasing, release: _Release) -> None:
        try:
            async with self._slots:
                wait = await self._step(deployment, releasing, release)
        except Conflict:
            # It changed meanwhile: the informer has it soon.
            self._again_later(release)
        except ClusterError as error:
            self._again_later(release)
            RELEASE_STEPS.labels("refused").inc()
            if isinstance(error, Rejected):
                self._once(deployment, release, f"refused: {error}")
            log.warning("release not continued", deployment=deployment.key, cause=str(error))
        else:
            release.attempts = 0
            release.next_at = self.clock.monotonic() + (LOOK_AGAIN if wait is None else min(wait, LOOK_AGAIN))
        finally:
            release.busy = False
            self._changed.nudge()

    async def _step(self, deployment: ModuleDeployment, releasing: Releasing, release: _Release) -> float | None:
        """Do the next thing; return in how many seconds to look again. Raises ClusterError."""
        known = releasing.annotations.get(ANNOTATION_RELEASE, "")
        if not releasing.observed:
            return None
        if not releasing.revision:
            self._once(deployment, release, "this cluster numbers no revisions: all Pods are updated at once")
            return None
        state = read(known)
        if state.number != releasing.revision:
            begun = begin(state, releasing.revision, await self.cluster.revisions(deployment))
            if begun is None:
                return 1.0
            state = begun
        step = advance(state, self._situation(deployment, releasing, release))
        if step.undo:
            WRITES.labels("deployment-undo").inc()
            await self.cluster.undo_deployment(deployment, step.undo)
            self._remark(deployment, Remark(True, step.reason, step.message))
            return 0.0
        held = await self._say(deployment, releasing, release, step)
        if held is None and step.release:
            held = await self._release_pods(deployment, release, step)
        if held is not None:
            return held
        return step.look_in if len(step.release) <= PODS_AT_ONCE else 0.0

    def _situation(self, deployment: ModuleDeployment, releasing: Releasing, release: _Release) -> Situation:
        return Situation(
            settings=settings(releasing),
            replicas=1 if deployment.replicas is None else deployment.replicas,
            pods=tuple(self._pods(release)),
            wall=self.clock.wall(),
            paused=releasing.paused,
            confirmed=releasing.annotations.get(ANNOTATION_CONFIRMED, ""),
            abort=releasing.annotations.get(ANNOTATION_ABORT, ""),
            min_ready=releasing.min_ready,
            progress_deadline=releasing.progress_deadline,
        )

    def _pods(self, release: _Release) -> Iterator[Pod]:
        return (pod for key in release.pods if (pod := self.cluster.pods.get(key)) is not None)

    async def _say(
        self, deployment: ModuleDeployment, releasing: Releasing, release: _Release, step: Step
    ) -> float | None:
        """Write state and condition where they differ, and an Event where the condition does.

        Returns for how many seconds that has to wait. Raises ClusterError.
        """
        said = Condition(CONDITION_RELEASED, step.status, step.reason, step.message)
        known = (said.status, said.reason, said.message) == (releasing.status, releasing.reason, releasing.message)
        if known and written(step.state) == releasing.annotations.get(ANNOTATION_RELEASE, ""):
            return None
        what = said, replace(step.state, opened="", passed="")
        if (held := release.said.held_until(what) - self.clock.monotonic()) > 0:
            return held
        WRITES.labels("deployment-release").inc()
        await self.cluster.write_release(deployment, written(step.state), said)
        if not known:
            self._remark(deployment, Remark(step.warning, said.reason, said.message))
        self._repaired("deployment-release", release.said, what, deployment)
        return None

    def _once(self, deployment: ModuleDeployment, release: _Release, why: str) -> None:
        """Record why a release is not possible, unless that was the last thing that kept it."""
        if why != release.refused:
            release.refused = why
            self.recorder.deployment(deployment, Remark(True, "ReleaseNotPossible", why))

    def _remark(self, deployment: ModuleDeployment, remark: Remark) -> None:
        RELEASE_STEPS.labels(remark.reason).inc()
        self.recorder.deployment(deployment, remark)

    async def _release_pods(self, deployment: ModuleDeployment, release: _Release, step: Step) -> float | None:
        """Let Pods be installed; return for how many seconds that has to wait. Raises ClusterError."""
        pods = step.release[:PODS_AT_ONCE]
        what = frozenset(pod.uid for pod in pods)
        if (held := release.released.held_until(what) - self.clock.monotonic()) > 0:
            return held
        ends = await asyncio.gather(*(self._release(pod, step) for pod in pods), return_exceptions=True)
        for failure in (end for end in ends if end is not None):
            raise failure
        self._repaired("pod-release", release.released, what, deployment)
        return None

    def _repaired(self, what: str, repairs: Repairs, content: object, deployment: ModuleDeployment) -> None:
        times = repairs.written(content, self.clock.monotonic(), self.random.random())
        repaired(what, times, partial(self.recorder.deployment, deployment))

    async def _release(self, pod: Pod, step: Step) -> None:
        """Let a Pod be installed; one that is gone meanwhile needs nothing. Raises ClusterError."""
        WRITES.labels("pod-release").inc()
        try:
            await self.cluster.release_pod(pod, Condition(CONDITION_RELEASED, "True", "Batch", step.message))
        except NotFound:
            return

    def _again_later(self, release: _Release) -> None:
        release.attempts += 1
        release.next_at = self.clock.monotonic() + RETRY.delay(release.attempts, self.random.random())
