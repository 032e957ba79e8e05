"""The status of a module Pod, from what is known of its modules.

A pure function of the Pod and of a situation; it returns None where the Pod's status says all that already, so that
nothing is written twice and a status that somebody else changed is put right.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TypeAlias

from controlplane.domain.base import deadline
from controlplane.domain.base.modules import InFlight, Modules, Trouble
from controlplane.domain.base.releases import UNKNOWN, Release, outdated
from controlplane.domain.base.state import Base
from controlplane.domain.base.wishes import Wish, exclusive, unusable
from controlplane.domain.contract import ANNOTATION_INSTALL_STRATEGY
from controlplane.domain.facts import InstallStrategy, Module, ModuleState, Verb
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Condition, Container, ContainerStatus, OtherContainer, Pod, PodStatus
from controlplane.domain.probes import Reading, first
from controlplane.domain.remarks import Remark
from controlplane.domain.times import rfc3339

SHOW_PROGRESS_AFTER = 2.0
"""Seconds that an order is under way before its progress is worth a write."""

MESSAGE_LIMIT = 2048

WAITING_FOR_BATCH = "WaitingForBatch"
"""Reason of a module whose Deployment is released in batches, while its batch has not begun."""


Readings: TypeAlias = Mapping[tuple[str, str], Reading]
"""What probes show of modules, by UID of the Pod and name of the container."""

Superseded: TypeAlias = frozenset[tuple[str, ModuleKey]]
"""Pods (by UID) and modules whose place on the base the module of a newer Pod has taken."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the statuses of the Pods of a base follow from; now is monotonic, wall is written.

    releases are what the Pods want installed, by UID of the Pod and name of the container. held are the UIDs of Pods
    that wait for their batch.
    """

    base: Base
    releases: Mapping[tuple[str, str], Release]
    superseded: Superseded
    readings: Readings
    now: float
    wall: float
    held: frozenset[str] = frozenset()


def pod_status(pod: Pod, situation: Situation) -> PodStatus | None:
    """Return the status to write, or None when the Pod has it."""
    base, wall = situation.base, situation.wall
    if not base.modules.listed or pod.status.terminal:
        return None
    if deadline.remaining(pod, wall) == 0:
        return deadline.failed(pod, wall)
    containers, probed = [], {}
    for container in pod.containers:
        shown = pod.status.of(container)
        status = _container(pod, container, shown, situation)
        if status.kind == "running":
            reading = _reading(container, status, shown, situation.readings.get((pod.uid, container.name)))
            status = replace(status, started=reading.started, ready=reading.ready)
            probed[container.name] = reading.why
        containers.append(status)
    # Phases do not go back: a module that broke leaves its Pod Running and not Ready.
    running = pod.status.phase == "Running" or bool(probed)
    start_time = pod.status.start_time or rfc3339(wall)
    wanted = replace(
        pod.status,
        phase="Running" if running else "Pending",
        reason="",
        message="",
        pod_ip=base.profile.address.ip or pod.status.pod_ip,
        host_ip=base.profile.address.ip or pod.status.host_ip,
        start_time=start_time,
        containers=tuple(containers),
        others=tuple(_not_run(other, start_time) for other in pod.others),
        conditions=_conditions(pod, _not_ready(containers, base.unreachable, probed), rfc3339(wall)),
    )
    return None if _same(wanted, pod.status) else wanted


def waits(pod: Pod, situation: Situation) -> bool:
    """Return whether all there is to say of a Pod is that it waits for its modules, and its status says nothing yet."""
    modules, status = situation.base.modules, pod.status
    if status.containers or status.terminal or not modules.listed or pod.uid in situation.held:
        return False
    if deadline.remaining(pod, situation.wall) == 0:
        return False
    return not any(
        container.key in modules.present
        or (pod.uid, container.key) in situation.superseded
        or _shown(modules.troubles.get(container.key))
        or unusable(pod, container)
        for container in pod.containers
    )


class Statuses:
    """The statuses of the Pods of one base: none is made again until something changes that it follows from.

    Beside the situation that is the Pod itself: one that changed is another object.
    """

    def __init__(self) -> None:
        self._situation: Situation | None = None
        self._judged: dict[str, tuple[Pod, PodStatus | None]] = {}
        """Pods with what is to be written to them in that situation, by UID."""

    def enter(self, situation: Situation) -> None:
        """Judge by this situation from now on."""
        before, self._situation = self._situation, situation
        if before is None or _of_base(before) != _of_base(situation):
            self._judged.clear()
            return
        names, uids = _changed(before, situation)
        if names or uids:
            judged = self._judged.items()
            self._judged = {u: one for u, one in judged if u not in uids and not _concerned(one[0], names)}

    def of(self, pod: Pod) -> PodStatus | None:
        """Return the status to write, or None when the Pod has it."""
        known = self._judged.get(pod.uid)
        if known is not None and known[0] is pod:
            return known[1]
        situation = self._situation
        if situation is None:
            raise ValueError("no situation to judge by")
        status = pod_status(pod, situation)
        if pod.active_deadline is None:
            self._judged[pod.uid] = pod, status
        return status

    def keep(self, uids: AbstractSet[str]) -> None:
        """Forget all other Pods."""
        for uid in self._judged.keys() - uids:
            del self._judged[uid]


def _of_base(situation: Situation) -> tuple[object, ...]:
    """Return what the statuses of all Pods follow from."""
    base = situation.base
    return base.modules.listed, base.unreachable, base.profile.address.ip


def _changed(before: Situation, after: Situation) -> tuple[AbstractSet[str], AbstractSet[str]]:
    """Return names of modules of which something changed that a status follows from, and UIDs of Pods."""
    old, new = before.base.modules, after.base.modules
    names = _differing(old.present, new.present)
    names |= _differing(old.troubles, new.troubles) | _differing(old.owned, new.owned)
    if old.in_flight is not new.in_flight:
        flights = old.in_flight.keys() | new.in_flight.keys()
        names |= {name for name in flights if old.in_flight.get(name) is not new.in_flight.get(name)}
    # An order's progress becomes worth showing in its time.
    begun = new.in_flight.items()
    names |= {name for name, flight in begun if before.now < flight.sent_at + SHOW_PROGRESS_AFTER <= after.now}
    readings = before.readings.items() ^ after.readings.items()
    uids = {uid for uid, _ in before.superseded ^ after.superseded} | {uid for (uid, _), _ in readings}
    return names, uids | (before.held ^ after.held)


def _differing(one: Mapping[ModuleKey, object], other: Mapping[ModuleKey, object]) -> set[str]:
    if one is other:
        return set()
    keys = one.keys() | other.keys()
    return {key.name for key in keys if one.get(key) is not other.get(key) and one.get(key) != other.get(key)}


def _concerned(pod: Pod, names: Collection[str]) -> bool:
    return any(container.name in names for container in pod.containers)


def _same(one: PodStatus, other: PodStatus) -> bool:
    """The order of conditions alone is not worth a write."""
    return set(one.conditions) == set(other.conditions) and one == replace(other, conditions=one.conditions)


def remarks(pod: Pod, written: PodStatus) -> Iterator[Remark]:
    """Yield what is to be said by Events now that this status was written to the Pod, which still shows the last one.

    Each remark is made once for as long as it holds: what the Pod's status shows already has been said.
    """
    before = {status.name: status for status in (*pod.status.containers, *pod.status.others)}
    after = {status.name: status for status in (*written.containers, *written.others)}
    for container in pod.containers:
        last, status = before.get(container.name), after.get(container.name)
        if status is None or not unusable(pod, container):
            continue
        if last is None or (last.reason, last.message) != (status.reason, status.message):
            yield Remark(True, status.reason, f"{container.name}: {status.message}")
    if written.phase == "Failed" and pod.status.phase != "Failed":
        yield Remark(True, written.reason, written.message)
    if pod.ignored and not after.keys() <= before.keys():
        yield Remark(False, "FieldsIgnored", pod.ignored)


def next_progress(pods: Sequence[Pod], modules: Modules, now: float) -> float | None:
    """Return when an order under way for one of the Pods becomes worth showing."""
    times = [
        flight.sent_at + SHOW_PROGRESS_AFTER
        for pod in (pods if modules.in_flight else ())
        for container in pod.containers
        if (flight := modules.in_flight.get(container.name)) is not None
    ]
    return min((t for t in times if t > now), default=None)


def unready(pods: Iterable[Pod], readings: Readings) -> Superseded:
    """Return the Pods and modules whose probes have not succeeded."""
    return frozenset(
        (pod.uid, container.key)
        for pod in pods
        for container in pod.containers
        if container.probes and not (readings.get((pod.uid, container.name)) or pod.status.of(container)).ready
    )


NONE_SUPERSEDED: Superseded = frozenset()


def superseded(wishes: Sequence[Wish], modules: Modules, unready: Superseded = NONE_SUPERSEDED) -> Superseded:
    """Return which Pods are superseded, those that are being deleted included; wishes come oldest first.

    A version beside which another one may stand gives way to a newer one that is ready, and not before.
    """
    if len({wish.spec.key.name for wish in wishes}) == len(wishes):
        return NONE_SUPERSEDED
    live = [wish for wish in wishes if not wish.leaving]
    newest = {wish.spec.key.name: wish for wish in live}
    alone = modules.alone | {wish.spec.key.name for wish in live if exclusive(wish)}
    return frozenset(
        (wish.pod, wish.spec.key)
        for wish in wishes
        if (winner := newest.get(wish.spec.key.name)) is not None
        and wish.pod != winner.pod
        and wish.created <= winner.created
        and _gives_way(wish, winner, modules, alone, unready)
    )


def _gives_way(older: Wish, newest: Wish, modules: Modules, alone: frozenset[str], unready: Superseded) -> bool:
    key = newest.spec.key
    if older.spec.key != key and key.name in alone:
        return True
    module = modules.present.get(key)
    # Of Pods that were created in the same second neither is known to be the newer one.
    if older.created == newest.created or module is None or module.state is not ModuleState.ACTIVATED:
        return False
    present = modules.owned.get(key, UNKNOWN)
    if older.spec.key == key:
        return present == newest.release != older.release
    return not outdated(present, newest.release) and (newest.pod, key) not in unready


def _container(pod: Pod, container: Container, before: ContainerStatus, situation: Situation) -> ContainerStatus:
    key, modules = container.key, situation.base.modules
    status = ContainerStatus(container.name, "waiting", image=container.image, restart_count=before.restart_count)
    if problem := unusable(pod, container):
        reason = "UnsupportedField" if container.unsupported else "InvalidModule"
        return replace(status, reason=reason, message=problem[:MESSAGE_LIMIT])
    if pod.uid in situation.held:
        return replace(status, reason=WAITING_FOR_BATCH, message="its Deployment is released in batches")
    if (pod.uid, key) in situation.superseded:
        return replace(status, reason="Superseded", message="a newer Pod has its module on this base")
    module = modules.present.get(key)
    trouble = modules.troubles.get(key)
    if trouble is not None:
        status = replace(status, restart_count=max(status.restart_count, trouble.restarts))
    if module is not None and outdated(modules.owned.get(key, UNKNOWN), situation.releases[pod.uid, container.name]):
        reason, message = _shown(trouble) or ("Replacing", "an older release of this module is on the base")
        return replace(status, reason=reason, message=message[:MESSAGE_LIMIT])
    if module is not None and module.state is ModuleState.ACTIVATED:
        return replace(status, kind="running", started_at=_started(module, before, situation.wall))
    flight = modules.in_flight.get(key.name)
    mine = flight if flight is not None and flight.spec.key == key else None
    reason, message = _waiting(module, trouble, mine, before, situation.now)
    if trouble is not None and trouble.reason == "InstallFailed" and (others := _beside(key, modules)):
        message = f"{message}\n{others}"
    return replace(status, reason=reason, message=message[:MESSAGE_LIMIT])


def _reading(
    container: Container, status: ContainerStatus, before: ContainerStatus, reading: Reading | None
) -> Reading:
    """Return what the probes of a running module show; until one of ours was sent, what stands in the Pod."""
    run = status.started_at
    if not container.probes:
        return first(container.probes, run, started=True, ready=True)
    if reading is not None and reading.run == run:
        return reading
    same = before.kind == "running" and before.started_at == run
    return first(container.probes, run, started=same and before.started, ready=same and before.ready)


def _not_run(other: OtherContainer, at: str) -> ContainerStatus:
    """Say of a container that is no module that it is over: nothing waits for it, and its message is shown."""
    return ContainerStatus(
        name=other.name,
        kind="terminated",
        image=other.image,
        reason="NotAModule",
        message=f"not run: a virtual node runs modules, and this {other.kind.value} is none",
        started_at=at,
        finished_at=at,
    )


def _shown(trouble: Trouble | None) -> tuple[str, str] | None:
    if trouble is None or not trouble.reason or trouble.verb is Verb.UNINSTALL:
        return None
    return trouble.reason, trouble.message


def _beside(key: ModuleKey, modules: Modules) -> str:
    """Say what may be in the way of a version that does not start."""
    versions = ", ".join(sorted(other.version for other in modules.present if other.name == key.name and other != key))
    if not versions:
        return ""
    return (
        f"(version {versions} is on the base, too: where two versions cannot run side by side, annotate the Pod with "
        f"{ANNOTATION_INSTALL_STRATEGY}: {InstallStrategy.UNINSTALL_THEN_INSTALL.value})"
    )


def _waiting(
    module: Module | None, trouble: Trouble | None, flight: InFlight | None, before: ContainerStatus, now: float
) -> tuple[str, str]:
    if shown := _shown(trouble):
        return shown
    if module is not None:
        if module.state is ModuleState.BROKEN:
            return "Broken", module.message or "its start or stop failed in the base"
        if module.state is ModuleState.DEACTIVATED:
            return "Deactivated", module.message or "another version of this module serves on this base"
        return "Starting", module.message
    if flight is not None and flight.verb is Verb.INSTALL:
        worth_showing = before.reason == "Installing" or now - flight.sent_at >= SHOW_PROGRESS_AFTER
        if worth_showing:
            return "Installing", ""
    # What stands there is kept, so that a quick install costs one write only.
    if before.kind == "waiting":
        return before.reason, before.message
    return "Pending", ""


def _started(module: Module, before: ContainerStatus, wall: float) -> str:
    if module.changed_at:
        return rfc3339(module.changed_at / 1000)
    shown = before.started_at if before.kind == "running" else ""
    return shown or rfc3339(wall)


def _not_ready(containers: Sequence[ContainerStatus], unreachable: str, probed: Mapping[str, str]) -> tuple[str, str]:
    """Return reason and message, empty where all is well."""
    waiting = [container for container in containers if not container.ready]
    if waiting:
        names = ", ".join(f"{each.name} ({each.reason or probed.get(each.name, '')})" for each in waiting)
        return "ContainersNotReady", f"modules not ready: {names}"[:MESSAGE_LIMIT]
    if not containers:
        return "ContainersNotReady", "the Pod has no containers"
    return ("BaseUnreachable", unreachable) if unreachable else ("", "")


def _conditions(pod: Pod, not_ready: tuple[str, str], now: str) -> tuple[Condition, ...]:
    gates = [gate for gate in pod.readiness_gates if Condition.of(pod.status.conditions, gate).status != "True"]
    ready = not_ready
    if ready == ("", "") and gates:
        ready = "ReadinessGatesNotReady", f"conditions not True: {', '.join(gates)}"
    # Tools written for the original read the first condition.
    ours = (("Ready", *ready), ("ContainersReady", *not_ready), ("Initialized", "", ""))
    changed = (Condition(kind, "False" if why else "True", why, message, now) for kind, why, message in ours)
    return Condition.merged(changed, pod.status.conditions)
