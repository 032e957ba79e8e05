"""Releases in batches: settings, steps, and any order of things that may happen meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.contract import CONDITION_RELEASED, POD_TEMPLATE_HASH
from controlplane.domain.objects import (
    Condition,
    Container,
    ContainerStatus,
    ModuleDeployment,
    NotUnderstood,
    Pod,
    PodStatus,
)
from controlplane.domain.revisions import Releasing, Revision
from controlplane.domain.times import rfc3339
from controlplane.domain.workloads import batches
from controlplane.domain.workloads.batches import Confirm, Settings, deployment_of, held, released
from controlplane.domain.workloads.release import Situation, State, Step, advance, begin, read, under_way, written

PREFIX = "module.koupleless.io"
WALL = 1_790_000_000.0
BIZ = Container("biz1", "https://repo.example/biz1-2.jar", "2")
NEW, OLD = "new", "old"


def pod(
    name: str, *, revision: str = NEW, go: bool = False, ready: bool = False, reason: str = "", at: float = WALL
) -> Pod:
    conditions = [Condition(CONDITION_RELEASED, "True")] if go else []
    conditions.append(Condition("Ready", str(ready), last_transition_time=rfc3339(at)))
    container = ContainerStatus("biz1", "running" if ready else "waiting", ready=ready, reason=reason)
    status = PodStatus("Running" if ready else "Pending", conditions=tuple(conditions), containers=(container,))
    labels = {POD_TEMPLATE_HASH: revision}
    return Pod(
        "default", name, f"uid-{name}", "1", f"vnode.{name}.dev", (BIZ,), status, labels, owner_name=f"biz1-{revision}"
    )


def annotated(**annotations: str) -> Releasing:
    return Releasing({f"{PREFIX}/{name.replace('_', '-')}": value for name, value in annotations.items()})


@pytest.mark.parametrize(
    ("annotations", "replicas", "targets"),
    [
        ({"batches": "3"}, 6, (2, 4, 6)),
        ({"batches": "3"}, 7, (3, 5, 7)),
        ({"batches": "3", "first_batch": "1"}, 7, (1, 3, 5, 7)),
        ({"batches": "2", "first_batch": "10%"}, 21, (3, 12, 21)),
        ({"batches": "3"}, 2, (1, 2)),
        ({"batches": "1", "first_batch": "5"}, 2, (2,)),
        ({"batches": "4"}, 0, ()),
    ],
)
def test_batches_are_even_and_none_is_empty(
    annotations: dict[str, str], replicas: int, targets: tuple[int, ...]
) -> None:
    found = batches.settings(annotated(**annotations))
    assert isinstance(found, Settings)
    assert found.targets(replicas) == targets


@pytest.mark.parametrize(
    ("annotations", "word"),
    [
        ({"batches": "0"}, "batches"),
        ({"batches": "three"}, "batches"),
        ({"batches": "1001"}, "batches"),
        ({"batches": "3", "first_batch": "101%"}, "first-batch"),
        ({"batches": "3", "first_batch": "-1"}, "first-batch"),
        ({"batches": "3", "pause_between": "60"}, "pause-between"),
        ({"batches": "3", "confirm": "always"}, "confirm"),
    ],
)
def test_what_is_not_understood_is_named(annotations: dict[str, str], word: str) -> None:
    found = batches.settings(annotated(**annotations))
    assert isinstance(found, NotUnderstood)
    assert f"{PREFIX}/{word}: " in found.what


def test_recreate_and_batches_exclude_each_other() -> None:
    assert isinstance(batches.settings(replace(annotated(batches="2"), rolling=False)), NotUnderstood)


def test_all_settings_are_read() -> None:
    releasing = annotated(batches="3", first_batch="10%", pause_between="5m", confirm="each")
    assert batches.settings(releasing) == Settings(3, 10, percent=True, pause=300.0, confirm=Confirm.EACH)


def test_a_pod_of_a_replica_set_waits_if_its_deployment_has_batches() -> None:
    waiting, deployment = (
        pod("a"),
        ModuleDeployment("default", "biz1", "u", "1", releasing=replace(annotated(batches="2"), revision=1)),
    )
    known = {"default/biz1": deployment}
    assert deployment_of(waiting) == "default/biz1"
    assert held(waiting, known.get)
    assert not held(waiting, {"default/biz1": replace(deployment, releasing=None)}.get)
    assert not held(waiting, {"default/biz1": replace(deployment, releasing=annotated(batches="2"))}.get)
    assert not held(waiting, dict[str, ModuleDeployment]().get)
    assert not held(pod("a", go=True), known.get)
    # What was begun before there were batches goes on, and what is deleted is removed.
    assert not held(pod("a", ready=True), known.get)
    assert not held(replace(waiting, deleting=True), known.get)
    # A Pod of another kind of workload has no such label.
    assert not held(replace(waiting, labels={}), known.get)


@given(st.text() | st.sampled_from(["[]", "1", '{"batch":-1}', '{"batch":true,"stable":3}', '{"number":7}']))
def test_any_text_is_a_state(text: str) -> None:
    assert read(text).batch >= 1


def test_a_state_is_read_as_it_was_written() -> None:
    state = State("s", 7, "h", 2, rfc3339(WALL), rfc3339(WALL), "why", 3)
    assert read(written(state)) == state


@pytest.mark.parametrize(
    ("known", "others", "stable"),
    [
        ("", [], NEW),  # the first revision
        ("", [Revision(1, OLD, 6, 6)], OLD),
        (OLD, [Revision(1, OLD, 2, 2), Revision(2, "abandoned", 4, 4)], OLD),
        ("gone", [Revision(1, OLD, 6, 5), Revision(2, "abandoned", 2, 1)], OLD),
        (OLD, [Revision(1, OLD, 0, 0)], NEW),
        (NEW, [Revision(3, "undone", 6, 6)], NEW),  # back to what was released last
    ],
)
def test_what_is_stable_when_a_revision_begins(known: str, others: list[Revision], stable: str) -> None:
    begun = begin(State(known, 1, known), 9, [*others, Revision(9, NEW)])
    assert begun == State(stable, 9, NEW)
    assert begin(State(), 10, others) is None


THREE = Settings(3)


def seen(*pods: Pod, replicas: int = 6, chosen: Settings = THREE, **more: object) -> Situation:
    return replace(Situation(chosen, replicas, pods, WALL), **more)  # type: ignore[arg-type]


RELEASING = State(OLD, 7, NEW)


def names(step: Step) -> list[str]:
    return [pod.name for pod in step.release]


def test_a_batch_is_released_and_no_more() -> None:
    step = advance(RELEASING, seen(pod("a"), pod("b"), pod("c")))
    assert (step.reason, names(step)) == ("BatchUnderWay", ["a", "b"])
    assert step.message == "revision 7, batch 1 of 3, 2 of 6 Pods: is under way"
    step = advance(step.state, seen(pod("a", go=True), pod("b", go=True, ready=True), pod("c")))
    assert (step.reason, names(step)) == ("BatchUnderWay", [])
    step = advance(step.state, seen(pod("a", go=True, ready=True), pod("b", go=True, ready=True), pod("c")))
    assert (step.reason, step.state.batch, names(step)) == ("BatchUnderWay", 2, [])
    assert names(advance(step.state, seen(pod("a", go=True, ready=True), pod("b", go=True, ready=True), pod("c")))) == [
        "c"
    ]


def test_pods_of_the_stable_revision_never_wait() -> None:
    assert names(advance(RELEASING, seen(pod("old", revision=OLD), pod("other", revision="abandoned")))) == ["old"]
    at_rest = advance(State(NEW, 7, NEW), seen(pod("a"), pod("b"), pod("c"), paused=True))
    assert (at_rest.reason, names(at_rest)) == ("Released", ["a", "b", "c"])


def both(chosen: Settings = THREE, **more: object) -> Situation:
    ready = (pod(name, go=True, ready=True) for name in "ab")
    return replace(seen(*ready, pod("c"), chosen=chosen), **more)  # type: ignore[arg-type]


def test_a_person_confirms_the_batch_of_the_revision() -> None:
    chosen = Settings(3, confirm=Confirm.EACH)
    waits = advance(RELEASING, both(chosen=chosen))
    assert waits.reason == "WaitingForConfirmation"
    assert waits.message == "revision 7, batch 1 of 3, 2 of 6 Pods: is done; confirm 7.1, or abort 7"
    for wrong in ("6.1", "7.2", "7.1-failed", "yes"):
        assert advance(waits.state, both(chosen=chosen, confirmed=wrong)).reason == "WaitingForConfirmation"
    assert advance(waits.state, both(chosen=chosen, confirmed="7.1")).state.batch == 2
    only_first = Settings(3, confirm=Confirm.FIRST)
    assert advance(RELEASING, both(chosen=only_first)).reason == "WaitingForConfirmation"
    assert advance(replace(RELEASING, batch=2), both(replicas=3, chosen=only_first)).state.batch == 3


def test_the_time_between_batches_counts_from_when_all_were_available() -> None:
    chosen = Settings(3, pause=60.0)
    waits = advance(RELEASING, both(chosen=chosen))
    assert (waits.reason, waits.look_in) == ("WaitingForPause", 60.0)
    assert advance(waits.state, both(chosen=chosen, wall=WALL + 59)).reason == "WaitingForPause"
    assert advance(waits.state, both(chosen=chosen, wall=WALL + 60)).state.batch == 2
    # A Pod that is lost in between begins it again.
    lost = advance(waits.state, seen(pod("a", go=True, ready=True), pod("b", go=True), chosen=chosen, wall=WALL + 30))
    assert (lost.reason, lost.state.passed) == ("BatchUnderWay", "")


def test_available_means_ready_for_a_while() -> None:
    step = advance(RELEASING, both(min_ready=10, wall=WALL + 4))
    assert (step.state.batch, step.look_in) == (1, 6.0)
    assert advance(RELEASING, both(min_ready=10, wall=WALL + 10)).state.batch == 2


@pytest.mark.parametrize("reason", ["InstallFailed", "InvalidModule", "ArtifactUnavailable", "Broken"])
def test_a_failed_module_stops_the_release_until_a_person_says_so(reason: str) -> None:
    failing = (pod("a", go=True, ready=True), pod("b", go=True, reason=reason), pod("c"))
    step = advance(RELEASING, seen(*failing))
    assert (step.reason, step.warning, names(step)) == ("BatchFailed", True, [])
    assert f"biz1:2 of Pod b: {reason}; confirm 7.1-failed, or abort 7" in step.message
    # It is tried again and succeeds: somebody has to look all the same.
    assert advance(step.state, both()).reason == "BatchFailed"
    assert advance(step.state, seen(*failing, confirmed="7.1")).reason == "BatchFailed"
    on = advance(step.state, seen(*failing, confirmed="7.1-failed"))
    assert (on.state.batch, on.state.tolerated) == (2, 1)
    after = advance(on.state, seen(*failing, confirmed="7.1-failed"))
    assert (after.reason, names(after)) == ("BatchUnderWay", ["c"])


def test_a_batch_that_takes_too_long_has_failed() -> None:
    state = advance(RELEASING, seen(pod("a"))).state
    assert advance(state, seen(pod("a", go=True), wall=WALL + 599)).reason == "BatchUnderWay"
    assert advance(state, seen(pod("a", go=True), wall=WALL + 600)).reason == "BatchFailed"
    # Time in which it is paused does not count.
    paused = advance(state, seen(pod("a", go=True), pod("b"), wall=WALL + 700, paused=True))
    assert (paused.reason, names(paused)) == ("Paused", [])
    assert advance(paused.state, seen(pod("a", go=True), wall=WALL + 700)).reason == "BatchUnderWay"


def test_abort_names_the_revision() -> None:
    assert advance(RELEASING, seen(pod("a"), abort="6")).undo == ""
    step = advance(RELEASING, seen(pod("a"), abort="7", paused=True))
    assert (step.reason, step.undo, names(step)) == ("Aborted", OLD, [])
    assert advance(State(NEW, 7, NEW), seen(pod("a"), abort="7")).undo == ""


def test_a_baseline_is_not_given_while_it_is_not_decided_who_has_what() -> None:
    rest = {"module.koupleless.io/release": written(State(NEW, 7, NEW))}
    assert not under_way(None)
    assert not under_way(Releasing(rest, observed=True, revision=7))
    assert under_way(Releasing(rest, observed=False, revision=7))
    assert under_way(Releasing(rest, observed=True, revision=8))
    assert under_way(Releasing({"module.koupleless.io/release": written(RELEASING)}, observed=True, revision=7))


@dataclass
class World:
    """A Deployment controller that makes all new Pods at once, and bases that do what they are let do."""

    replicas: int
    chosen: Settings
    state: State = RELEASING
    pods: dict[str, Pod] = field(default_factory=dict)
    wall: float = WALL
    confirmed: str = ""
    paused: bool = False
    reason: str = ""

    def step(self, *, crash: bool) -> None:
        """Do one step; with crash only the state is written, and nothing that this process knows is left."""
        target_before = self.allowed()
        available = self.count(ready=True)
        step = advance(read(written(self.state)), self.seen())
        if step.state.batch > self.state.batch and step.state.number == self.state.number:
            assert available >= target_before - step.state.tolerated
            assert not self.paused
        self.state, self.reason = step.state, step.reason
        for waiting in () if crash else step.release:
            self.pods[waiting.name] = pod(waiting.name, go=True)
        assert self.state.at_rest or self.count(ready=False) <= self.allowed()

    def allowed(self) -> int:
        targets = self.chosen.targets(self.replicas)
        return targets[min(self.state.batch, len(targets)) - 1]

    def count(self, *, ready: bool) -> int:
        found: Sequence[Pod] = [p for p in self.pods.values() if released(p)]
        return sum(1 for p in found if not ready or p.status.phase == "Running")

    def seen(self) -> Situation:
        pods = tuple(self.pods.values())
        return Situation(self.chosen, self.replicas, pods, self.wall, paused=self.paused, confirmed=self.confirmed)


EVENTS = st.sampled_from(
    ["new", "ready", "fail", "lose", "delete", "confirm", "confirm-failed", "pause", "resume", "time"]
)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 9),
    st.builds(
        Settings,
        st.integers(1, 4),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from([0.0, 60.0]),
        st.sampled_from(Confirm),
    ),
    st.lists(st.tuples(EVENTS, st.integers(0, 8), st.booleans()), max_size=80),
)
def test_whatever_happens_no_batch_is_too_large_and_it_ends(
    replicas: int, chosen: Settings, events: list[tuple[str, int, bool]]
) -> None:
    world = World(replicas, chosen)
    for event, number, crash in events:
        happen(world, event, f"p{number % replicas}")
        world.step(crash=crash)
    world.paused = False
    for _ in range(4 * len(chosen.targets(replicas)) + 4):
        for number in range(replicas):
            happen(world, "new", f"p{number}")
            happen(world, "ready", f"p{number}")
        happen(world, "confirm", "")
        happen(world, "time", "")
        world.step(crash=False)
    assert world.state == State(NEW, 7, NEW)


def happen(world: World, event: str, name: str) -> None:
    known = world.pods.get(name)
    match event:
        case "new":
            world.pods.setdefault(name, pod(name))
        case "ready" | "fail" | "lose" if known is not None and released(known):
            reason = "InstallFailed" if event == "fail" else ""
            world.pods[name] = pod(name, go=True, ready=event == "ready", reason=reason)
        case "delete":
            world.pods.pop(name, None)
        case "confirm":
            world.confirmed = world.state.name
        case "confirm-failed":
            world.confirmed = f"{world.state.number}.{world.state.batch}-failed"
        case "pause" | "resume":
            world.paused = event == "pause"
        case "time":
            world.wall += 61
