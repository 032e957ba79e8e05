"""The Pods of one base: writes their statuses, and removes those whose deletion was asked for."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import structlog

from controlplane.app.base.orderreports import OrderReports
from controlplane.app.base.readiness import Readiness
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.metrics import BOUND_TO_ORDER, UNINSTALL_TIMEOUTS, WRITES
from controlplane.app.ports import NotFound, Rejected
from controlplane.app.repairs import repaired
from controlplane.domain.base import deadline, vpod
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.state import Base
from controlplane.domain.base.wishes import Wish, unusable
from controlplane.domain.facts import Verb
from controlplane.domain.identity import ModuleKey, VNodeName
from controlplane.domain.objects import Container, Pod, PodStatus
from controlplane.domain.remarks import Remark
from controlplane.domain.repairs import Repairs
from controlplane.domain.workloads.batches import held

log = structlog.get_logger(__name__)

T = TypeVar("T")

REFUSED_AGAIN = 30.0
"""Seconds until a write that the cluster refused is tried again without news."""

LEAVING_SHOWN_AFTER = 5.0
"""Seconds that the status of a Pod whose deletion was asked for is other than it should be before that is worth a
write: mostly its module has left, and the list that confirms it, and so the removal, is on its way."""

NONE_HELD: frozenset[str] = frozenset()

REMOVED_AGAIN = 30.0
"""Seconds until a removed Pod that is still seen (a finalizer, a watch that lags) is removed again, at least."""


@dataclass(slots=True)
class _Seen:
    """What was seen and done of a Pod; monotonic times.

    When it was first seen bound, changed, and first seen leaving; since when its status is another one than it should
    be; whether we removed it.
    """

    bound: float
    containers: tuple[Container, ...]
    changed: float | None = None
    ordered: bool = False
    leaving: float = float("inf")
    differs: float = float("inf")
    removed: bool = False
    remove_again: float = 0.0
    repairs: Repairs = field(default_factory=Repairs)


class Removal(NamedTuple):
    """A Pod that is to be removed, the modules that did not leave, and for how many seconds it has been leaving."""

    pod: Pod
    seen: _Seen
    staying: Sequence[ModuleKey]
    seconds: float


@dataclass(slots=True)
class Pods:
    """Works on the Pods of one base; what it holds is lost with it at no harm."""

    vnode: VNodeName
    around: Surroundings
    readiness: Readiness
    reports: OrderReports
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _statuses: vpod.Statuses = field(default_factory=vpod.Statuses)
    _held: frozenset[str] = NONE_HELD
    """Pods that wait for their batch, by UID."""

    def look(self, now: float, touched_at: float | None = None) -> tuple[Pod, ...]:
        """Return the Pods bound to the base, oldest first, and note when they came and began to leave.

        touched_at is when something changed while the actor was at work on earlier news.
        """
        pods, bound = self.around.cluster.pods.on_node(self.vnode), now if touched_at is None else touched_at
        there = {pod.uid for pod in pods}
        self._statuses.keep(there)
        for uid in self._seen.keys() - there:
            if self._seen.pop(uid).leaving == float("inf"):
                # Deleted by force, or its label was removed.
                self.around.roster.doubt(self.vnode)
        for pod in pods:
            seen = self._seen.get(pod.uid)
            if seen is None:
                seen = self._seen[pod.uid] = _Seen(bound, pod.containers)
            if seen.containers != pod.containers:
                seen.containers, seen.changed = pod.containers, now
            if pod.deleting:
                seen.leaving = min(seen.leaving, now)
        return pods

    def due(self, pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
        """Return the Pods that may be installed; the others are held, as they wait for their batch."""
        deployment = self.around.cluster.deployments.get
        waiting = [pod.uid for pod in pods if held(pod, deployment)]
        self._held = frozenset(waiting) if waiting else NONE_HELD
        return tuple(pod for pod in pods if pod.uid not in self._held) if self._held else pods

    def measure_orders(self, pods: Sequence[Pod], modules: Modules, now: float) -> None:
        """Measure how long Pods waited for the order that installs their module."""
        installing = {f.spec.key for f in modules.in_flight.values() if f.verb is Verb.INSTALL and f.sent_at == now}
        for pod in pods if installing else ():
            seen = self._seen[pod.uid]
            if not seen.ordered and any(c.key in installing for c in pod.containers):
                seen.ordered = True
                BOUND_TO_ORDER.observe(max(now - seen.bound, 0.0))

    def due_statuses(
        self, base: Base, pods: Sequence[Pod], wishes: Sequence[Wish]
    ) -> tuple[list[tuple[Pod, PodStatus]], float | None]:
        """Return the statuses that are to be written, and when to look again without news."""
        now, wall, modules = self.around.clock.monotonic(), self.around.clock.wall(), base.modules
        probed = {pod.uid: pod for pod in pods if any(container.probes for container in pod.containers)}
        readings, live = self.readiness.readings(probed.values()), _live(wishes)
        superseded = vpod.superseded(wishes, modules, vpod.unready(probed.values(), readings))
        releases = {(wish.pod, wish.spec.key.name): wish.release for wish in wishes}
        situation = vpod.Situation(base, releases, superseded, readings, now, wall, self._held)
        self._statuses.enter(situation)
        shown: list[tuple[Pod, PodStatus]] = []
        due: list[tuple[Pod, PodStatus]] = []
        times = [at for at in (vpod.next_progress(pods, modules, now), deadline.next_at(pods, now, wall)) if at]
        for pod in pods:
            if pod.deleting and self._as_good_as_gone(pod, live, modules, now):
                continue  # Nobody needs its last status.
            seen = self._seen[pod.uid]
            # Most installs are too quick to be worth a status of their own.
            worth_showing = seen.bound + vpod.SHOW_PROGRESS_AFTER
            if now < worth_showing and vpod.waits(pod, situation):
                times.append(worth_showing)
                continue
            status = self._statuses.of(pod)
            if pod.uid in probed:
                shown.append((pod, status or pod.status))
            seen.differs = float("inf") if status is None else min(seen.differs, now)
            if status is None:
                continue
            held_until = self._held_until(pod, status, now)
            if held_until > now:
                times.append(held_until)
            else:
                due.append((pod, status))
        self.readiness.attend(shown, base.profile.address.ip)
        if not due:
            self.reports.all_shown()
        return due, min(times, default=None)

    def _as_good_as_gone(self, pod: Pod, live: AbstractSet[ModuleKey], modules: Modules, now: float) -> bool:
        """Return whether it is removed at once, or was a moment ago, which the watch has yet to show."""
        seen = self._seen[pod.uid]
        if seen.removed:
            return now < seen.remove_again and pod.deletion_grace_seconds != 0
        return not _staying(pod, live, modules)

    async def write_statuses(self, due: Sequence[tuple[Pod, PodStatus]]) -> bool:
        """Write statuses, superseded Pods first; return whether nothing follows from them. Raises ClusterError."""
        settled = True
        # Pods that turn not Ready go first: a Deployment then removes the right ones.
        for ready in (False, True):
            turn = [item for item in due if any(c.ready for c in item[1].containers) is ready]
            taken = await _all(self._write_status(*item) for item in turn)
            settled = settled and all(taken) and all(_ready(status) for _, status in turn)
        return settled

    async def _write_status(self, pod: Pod, status: PodStatus) -> bool:
        """Write one status; return whether the cluster took it. Raises ClusterError."""
        WRITES.labels("pod-status").inc()
        try:
            await self.around.cluster.patch_pod_status(pod, status)
        except (NotFound, Rejected) as error:
            # One Pod that the cluster refuses must not hold up the others; one that is gone may be seen for a while.
            if not isinstance(error, NotFound):
                log.warning("Pod status refused", vnode=self.vnode, pod=pod.key, cause=str(error))
            if (seen := self._seen.get(pod.uid)) is not None:
                seen.repairs.refused(status.fingerprint, self.around.clock.monotonic() + REFUSED_AGAIN)
            return False
        self._note_written(pod, status)
        for remark in vpod.remarks(pod, status):
            self.around.recorder.pod(pod, remark)
        self.reports.shown(pod)
        return True

    def _held_until(self, pod: Pod, status: PodStatus, now: float) -> float:
        """Return until when a write is held.

        Most uninstalls are too quick to be worth a status of their own, and a status that somebody else keeps changing
        is put right less and less often.
        """
        seen = self._seen[pod.uid]
        shown_at = max(seen.leaving, seen.differs) + LEAVING_SHOWN_AFTER
        if pod.deleting and now < shown_at:
            return shown_at
        return seen.repairs.held_until(status.fingerprint)

    def _note_written(self, pod: Pod, status: PodStatus) -> None:
        seen, now = self._seen.get(pod.uid), self.around.clock.monotonic()
        if seen is None:
            return
        if seen.changed is not None and all(c.ready for c in status.containers):
            self._say(pod, "PodUpdated", "the Pod was changed, and its modules are ready", now - seen.changed)
            seen.changed = None
        times = seen.repairs.written(status.fingerprint, now, self.around.random.random())
        repaired("pod-status", times, partial(self.around.recorder.pod, pod))

    def due_removals(
        self, base: Base, pods: Sequence[Pod], wishes: Sequence[Wish]
    ) -> tuple[list[Removal], float | None]:
        """Return the Pods whose deletion was asked for and whose modules are gone, and when to look again."""
        now, live = self.around.clock.monotonic(), _live(wishes)
        patience = self.around.policy.module_uninstall_timeout
        times, due = [], []
        for pod in pods:
            if not pod.deleting:
                continue
            seen = self._seen[pod.uid]
            if seen.removed and pod.deletion_grace_seconds == 0:
                continue  # Only finalizers hold it.
            if now < seen.remove_again:
                times.append(seen.remove_again)
                continue
            staying = _staying(pod, live, base.modules)
            if staying and now < seen.leaving + patience:
                times.append(seen.leaving + patience)
            else:
                due.append(Removal(pod, seen, staying, now - seen.leaving))
        return due, min(times, default=None)

    async def let_go(self, due: Sequence[Removal]) -> bool:
        """Remove Pods; return whether the cluster took all of it. Raises ClusterError."""
        return all(await _all(self._let_one_go(*item) for item in due))

    async def _let_one_go(self, pod: Pod, seen: _Seen, staying: Sequence[ModuleKey], seconds: float) -> bool:
        """Remove one Pod; return whether the cluster took it. Raises ClusterError."""
        if staying and not seen.removed:
            UNINSTALL_TIMEOUTS.inc()
            names, patience = ", ".join(str(key) for key in staying), self.around.policy.module_uninstall_timeout
            message = f"the Pod is removed although {names} did not leave the base within {patience:g} s"
            self.around.recorder.pod(pod, Remark(True, "ModuleUninstallTimeout", message, seconds), module=names)
        if (taken := await self._remove(pod)) and not staying and not seen.removed:
            self._say(pod, "PodRemoved", "its modules left the base, and the Pod was removed", seconds)
        seen.removed = True
        seen.remove_again = self.around.clock.monotonic() + REMOVED_AGAIN * (1 + self.around.random.random() / 2)
        return taken

    async def let_all_go(self, pods: Sequence[Pod]) -> None:
        """Remove Pods whose deletion was asked for: the base is gone, and its modules with it. Raises ClusterError."""

        async def remove(pod: Pod) -> None:
            if await self._remove(pod):
                self._say(pod, "PodRemoved", "its base is gone, and the Pod was removed")

        await _all(remove(pod) for pod in pods if pod.deleting)

    async def _remove(self, pod: Pod) -> bool:
        WRITES.labels("pod-delete").inc()
        try:
            await self.around.cluster.delete_pod(pod, grace_seconds=0)
        except NotFound:
            return True
        except Rejected as error:
            log.warning("Pod not removed", vnode=self.vnode, pod=pod.key, cause=str(error))
            return False
        return True

    def _say(self, pod: Pod, reason: str, message: str, seconds: float = 0.0) -> None:
        """Record what is not worth an Event in the cluster."""
        self.around.recorder.pod(pod, Remark(False, reason, message, seconds), written=False)


async def _all(works: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """Do things side by side, all of them; then raise the first failure."""
    ends = await asyncio.gather(*works, return_exceptions=True)
    failures = [end for end in ends if isinstance(end, BaseException)]
    if failures:
        raise failures[0]
    return [end for end in ends if not isinstance(end, BaseException)]


def _ready(status: PodStatus) -> bool:
    return bool(status.containers) and all(container.ready for container in status.containers)


def _live(wishes: Sequence[Wish]) -> frozenset[ModuleKey]:
    return frozenset(wish.spec.key for wish in wishes if not wish.leaving)


def _staying(pod: Pod, live: AbstractSet[ModuleKey], modules: Modules) -> list[ModuleKey]:
    """Return the modules for which a Pod's deletion is held: they are, or may be, still on the base."""
    keys = {c.key for c in pod.containers if not unusable(pod, c)}
    return [key for key in keys if key not in live and not modules.gone(key)]
