"""The release of a new revision of a Deployment in batches: what to do next.

A pure function of what the Deployment, its ReplicaSets and its Pods say. The state is kept in an annotation; every step
leaves what the next one, of whichever replica, needs:

    at rest -> batch 1 -> its Pods are available -> confirmed, or waited -> batch 2 -> ... -> at rest
                 |                                                              |
                 +----> failed -> confirmed all the same -----------------------+
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace

from controlplane.domain.contract import ANNOTATION_RELEASE, ENV, POD_TEMPLATE_HASH
from controlplane.domain.objects import Condition, NotUnderstood, Pod
from controlplane.domain.revisions import BATCH_FAILED, NEEDS_PERSON, NOT_UNDERSTOOD, Releasing, Revision
from controlplane.domain.times import parse_time, rfc3339
from controlplane.domain.workloads.batches import Settings, released, settings
from controlplane.domain.workloads.rollout import FAILURES, part

FAILED = "-failed"
"""Behind REVISION.BATCH: it is confirmed although it failed."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a release is. The revision is at rest where its hash is the stable one.

    stable is the hash of the revision that was released last. batch counts from 1. opened and passed are RFC 3339
    times: when the batch began, and since when all its Pods are available. tolerated is how many Pods of the revision
    a person let fail.
    """

    stable: str = ""
    number: int = 0
    hash: str = ""
    batch: int = 1
    opened: str = ""
    passed: str = ""
    failed: str = ""
    tolerated: int = 0

    @property
    def at_rest(self) -> bool:
        """Return whether nothing is being released."""
        return self.hash == self.stable

    @property
    def name(self) -> str:
        """What a person confirms."""
        return f"{self.number}.{self.batch}{FAILED if self.failed else ''}"


def written(state: State) -> str:
    """Return a state as the annotation has it."""
    return json.dumps({name: value for name, value in asdict(state).items() if value}, separators=(",", ":"))


def read(text: str) -> State:
    """Read what written wrote; of anything else nothing is known."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return State()
    if not isinstance(found, dict):
        return State()
    known = {each.name: found[each.name] for each in fields(State) if type(found.get(each.name)) is type(each.default)}
    state = replace(State(), **known)
    return replace(state, batch=max(state.batch, 1), tolerated=max(state.tolerated, 0))


def under_way(releasing: Releasing | None) -> bool:
    """Return whether a new revision is being released, or begins to be: which bases are to have it is not decided."""
    if releasing is None:
        return False
    state = read(releasing.annotations.get(ANNOTATION_RELEASE, ""))
    return not releasing.observed or state.number != releasing.revision or not state.at_rest


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a release is, for people; batch is 0 at rest."""

    revision: int
    batch: int
    batches: int
    reason: str
    message: str


def progress(releasing: Releasing, replicas: int) -> Progress:
    """Return how far the release of a Deployment is."""
    state, chosen = read(releasing.annotations.get(ANNOTATION_RELEASE, "")), settings(releasing)
    batches = 0 if isinstance(chosen, NotUnderstood) else len(chosen.targets(replicas))
    batch = 0 if state.at_rest else state.batch
    if not releasing.reason:
        # The control plane has not looked at it, or never will.
        message = f"nothing releases it in batches: this needs the label {ENV}, and a cluster that numbers revisions"
        return Progress(releasing.revision, 0, batches, "", message)
    return Progress(releasing.revision, batch, batches, releasing.reason, releasing.message)


def begin(state: State, number: int, revisions: Sequence[Revision]) -> State | None:
    """Return the state in which a revision begins; None while its ReplicaSet is not there.

    Where no other revision has Pods there is nothing to protect: it counts as released.
    """
    new = next((each for each in revisions if each.number == number and each.hash), None)
    if new is None:
        return None
    others = {each.hash: each for each in revisions if each.replicas and each.hash != new.hash}
    most = max(others.values(), key=lambda each: (each.ready, each.replicas, each.number), default=new)
    stable = state.stable if state.stable == new.hash or state.stable in others else most.hash
    return State(stable=stable, number=number, hash=new.hash)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a step follows from. pods are those of the Deployment; wall is in seconds since the epoch.

    confirmed and abort are what persons wrote into the annotations.
    """

    settings: Settings | NotUnderstood
    replicas: int
    pods: Sequence[Pod]
    wall: float
    paused: bool = False
    confirmed: str = ""
    abort: str = ""
    min_ready: int = 0
    progress_deadline: int = 600


@dataclass(frozen=True, slots=True)
class Step:
    """What to do: write state and condition, then release Pods; or go back to the revision with the hash undo.

    look_in is in how many seconds to look again if nothing changes.
    """

    state: State
    reason: str
    message: str
    release: tuple[Pod, ...] = ()
    undo: str = ""
    look_in: float | None = None

    @property
    def warning(self) -> bool:
        """Return whether somebody has to look."""
        return self.reason in NEEDS_PERSON

    @property
    def status(self) -> str:
        """Return the status of the condition."""
        if self.reason == NOT_UNDERSTOOD:
            return "Unknown"
        return "True" if self.state.at_rest else "False"


def advance(state: State, seen: Situation) -> Step:
    """Return the next step of a release that has begun."""
    pods = [pod for pod in seen.pods if not pod.deleting and not pod.status.terminal]
    stable = _waiting(pods, state.stable)
    chosen = seen.settings
    if isinstance(chosen, NotUnderstood):
        return Step(state, NOT_UNDERSTOOD, chosen.what, stable)
    if state.at_rest:
        return Step(state, "Released", f"revision {state.number} is released", stable)
    if seen.abort == str(state.number):
        return Step(state, "Aborted", f"revision {state.number} is given up", undo=state.stable)
    batch = _Batch(state, seen, chosen, tuple(pod for pod in pods if _hash(pod) == state.hash))
    step = batch.step()
    return replace(step, release=stable + step.release)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The batch that a release is at; pods are those of the new revision."""

    state: State
    seen: Situation
    chosen: Settings
    pods: tuple[Pod, ...]

    def step(self) -> Step:
        state, now = self.state, rfc3339(self.seen.wall)
        if self.seen.paused:
            why = "spec.paused is true; kubectl rollout resume goes on"
            return self._waits(replace(state, opened=""), "Paused", why)
        if state.failed:
            return self._go_on() if self._confirmed else self._waits(state, BATCH_FAILED, state.failed)
        waits = [wait for pod in self.begun if (wait := _available_in(pod, self.seen)) is not None]
        available = sum(1 for wait in waits if not wait)
        if not self.target or available < self.target - state.tolerated:
            # A batch that was done and is no more begins anew.
            opened = now if state.passed else state.opened or now
            return self._under_way(replace(state, opened=opened, passed=""), [wait for wait in waits if wait])
        return self._done(replace(state, opened=state.opened or now, passed=state.passed or now))

    @property
    def targets(self) -> tuple[int, ...]:
        return self.chosen.targets(self.seen.replicas)

    @property
    def target(self) -> int:
        """How many Pods may be new now."""
        targets = self.targets
        return targets[min(self.state.batch, len(targets)) - 1] if targets else 0

    @property
    def begun(self) -> list[Pod]:
        return [pod for pod in self.pods if released(pod)]

    @property
    def _confirmed(self) -> bool:
        return self.seen.confirmed == self.state.name

    def _waits(self, state: State, reason: str, why: str, look_in: float | None = None) -> Step:
        total = max(len(self.targets), state.batch)
        where = f"revision {state.number}, batch {state.batch} of {total}, {self.target} of {self.seen.replicas} Pods"
        how = f"; confirm {state.name}, or abort {state.number}" if reason in _FOR_A_PERSON else ""
        return Step(state, reason, f"{where}: {why}{how}", look_in=look_in)

    def _under_way(self, state: State, soon: list[float]) -> Step:
        failure = _failure(state, self.begun, self.seen)
        if failure:
            return self._waits(replace(state, failed=failure), BATCH_FAILED, failure)
        step = self._waits(state, "BatchUnderWay", "is under way", min([*soon, _deadline_in(state, self.seen)]))
        return replace(step, release=_waiting(self.pods, state.hash)[: max(self.target - len(self.begun), 0)])

    def _done(self, state: State) -> Step:
        """Wait for what comes between batches; after the last one nothing does."""
        person = self.chosen.waits_for_person(state.batch)
        left = _since(state.passed, self.seen.wall, self.chosen.pause)
        if state.batch >= len(self.targets) or (self._confirmed if person else left <= 0):
            return self._go_on()
        if person:
            return self._waits(state, "WaitingForConfirmation", "is done")
        return self._waits(state, "WaitingForPause", f"is done, {self.chosen.pause:g} s until the next", left)

    def _go_on(self) -> Step:
        """Open the next batch, or, after the last one, be at rest. Pods that a person let fail are not waited for."""
        state = self.state
        if state.batch >= len(self.targets):
            state = State(stable=state.hash, number=state.number, hash=state.hash)
            return Step(state, "Released", f"revision {state.number} is released", look_in=0.0)
        available = sum(1 for pod in self.begun if _available_in(pod, self.seen) == 0)
        tolerated = max(self.target - available, 0) if state.failed else state.tolerated
        opened = rfc3339(self.seen.wall)
        state = replace(state, batch=state.batch + 1, opened=opened, passed="", failed="", tolerated=tolerated)
        return replace(self, state=state)._waits(state, "BatchUnderWay", "is under way", 0.0)


_FOR_A_PERSON = frozenset({BATCH_FAILED, "WaitingForConfirmation"})


def _failure(state: State, begun: Iterable[Pod], seen: Situation) -> str:
    """Say why a batch has failed, or return an empty text."""
    failing = [why for pod in begun if (why := _why(pod))]
    if len(failing) > state.tolerated:
        return failing[0]
    if _deadline_in(state, seen) <= 0:
        return f"its Pods were not all available within {seen.progress_deadline} s"
    return ""


def _why(pod: Pod) -> str:
    parts = (part(pod, container) for container in pod.containers)
    bad = next((each for each in parts if not each.ready and each.reason in FAILURES), None)
    return f"{bad.module} of Pod {pod.name}: {bad.reason}" if bad is not None else ""


def _deadline_in(state: State, seen: Situation) -> float:
    return _since(state.opened, seen.wall, seen.progress_deadline)


def _since(time: str, wall: float, seconds: float) -> float:
    """Return in how many seconds so many have passed since a time; one that cannot be read is now."""
    began = parse_time(time)
    return (wall if began is None else began) + seconds - wall


def _available_in(pod: Pod, seen: Situation) -> float | None:
    """Return in how many seconds a Pod is available, 0 if it is; None if it is not ready."""
    ready = Condition.of(pod.status.conditions, "Ready")
    if ready.status != "True":
        return None
    return max(_since(ready.last_transition_time, seen.wall, seen.min_ready), 0.0) if seen.min_ready else 0.0


def _hash(pod: Pod) -> str:
    return pod.labels.get(POD_TEMPLATE_HASH, "")


def _waiting(pods: Iterable[Pod], revision: str) -> tuple[Pod, ...]:
    """Return the Pods of a revision that are on a base and wait, oldest first."""
    found = [pod for pod in pods if pod.node_name and _hash(pod) == revision and not released(pod)]
    return tuple(sorted(found, key=lambda pod: (pod.creation_timestamp, pod.key)))
