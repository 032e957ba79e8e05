"""What is not looked at again, as it did not change, would come out as before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product

import pytest

from controlplane.domain.base import planner, vpod
from controlplane.domain.base.modules import InFlight, Modules, Trouble, only_confirms
from controlplane.domain.base.planner import ModulePolicy, Plan
from controlplane.domain.base.releases import UNKNOWN, Release
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.base.wishes import Wish, Wishes, wishes
from controlplane.domain.facts import Address, InstallStrategy, Module, ModuleSpec, ModuleState, Verb
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.domain.objects import Pod, PodStatus
from controlplane.domain.probes import Port, Probe, Probes, Reading, TcpSocket
from controlplane.domain.times import rfc3339
from tests.unit.domain.base.pods import PLACE, PROFILE, VNODE, biz, pod

V1, V2 = ModuleKey("a", "1"), ModuleKey("a", "2")
NOW, WALL = 100.0, 1_790_000_000.0


def there(**states: ModuleState) -> Mapping[ModuleKey, Module]:
    """Modules of a base, by name and version without a colon."""
    keys = {ModuleKey(text[0], text[1:]): state for text, state in states.items()}
    return {key: Module(key, state) for key, state in keys.items()}


def _states_of_one_name() -> Iterator[Modules]:
    kinds = None, ModuleState.ACTIVATED, ModuleState.DEACTIVATED
    for first, second, installed, alone in product(kinds, kinds, ("", "old"), (False, True)):
        states = {"a1": first, "a2": second}
        yield Modules(
            listed=True,
            present=there(**{text: state for text, state in states.items() if state is not None}),
            owned=dict.fromkeys((V1, V2), Release(installed)),
            alone=frozenset({"a"} if alone else ()),
        )


def _wishes_of_one_name() -> Iterator[Sequence[Wish]]:
    strategies = InstallStrategy.DEFAULT, InstallStrategy.UNINSTALL_THEN_INSTALL
    one = [
        Wish(ModuleSpec(key, "u", strategy=strategy), leaving, Release(digest), "uid", "2026")
        for key, strategy, leaving, digest in product((V1, V2), strategies, (False, True), ("", "old"))
    ]
    yield from ([], *([each] for each in one), *product(one, one))


def test_names_that_are_as_wanted_need_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = list(product(_states_of_one_name(), _wishes_of_one_name()))

    def planned() -> list[Plan]:
        return [planner.plan(state, wanted, now=NOW, policy=ModulePolicy()) for state, wanted in cases]

    short = planned()
    monkeypatch.setattr(planner, "_in_question", lambda *_: frozenset({"a"}))
    assert short == planned()


def test_nothing_is_to_be_done_when_a_list_comes_that_nothing_waits_for() -> None:
    waiting = []
    for state, wanted in product(_states_of_one_name(), _wishes_of_one_name()):
        asked = planner.plan(replace(state, needs={"a": 7}), wanted, now=NOW, policy=ModulePolicy())
        settled = planner.plan(state, wanted, now=NOW, policy=ModulePolicy())
        waiting.append(asked.waits)
        assert asked.orders == ()
        assert not settled.waits
        if not asked.waits:
            assert settled.orders == ()
    assert True in waiting
    assert False in waiting


@pytest.mark.parametrize(
    ("epoch", "needs", "since", "expected"),
    [
        (7, {"a": 7}, 6, True),
        (7, {"a": 7, "b": 6}, 5, True),
        (7, {"a": 7, "b": 7}, 6, True),
        # Somebody asked, and then an order ended.
        (7, {"a": 7}, 5, False),
        (7, {"a": 7, "b": 5}, 4, False),
        # An order ended, and then somebody asked.
        (8, {"a": 7}, 6, False),
        (7, {}, 6, False),
        # Another term.
        (2 << 32, {"a": 2 << 32}, 1 << 32, False),
        (7, {}, 7, True),
    ],
)
def test_questions_that_only_confirm(epoch: int, needs: Mapping[str, int], since: int, expected: bool) -> None:
    assert only_confirms(Modules(listed=True, epoch=epoch, needs=needs), since) is expected


PODS = (
    pod("p1", replace(biz("a"), probes=Probes(readiness=Probe(TcpSocket(Port(1)))))),
    pod("p2", biz("b"), biz("c")),
)
SPEC = ModuleSpec(V1, "u")
STARTING = there(a1=ModuleState.RESOLVED, b1=ModuleState.ACTIVATED, c1=ModuleState.ACTIVATED)
ACTIVE = there(a1=ModuleState.ACTIVATED, b1=ModuleState.ACTIVATED, c1=ModuleState.ACTIVATED)


def trouble(message: str) -> Mapping[ModuleKey, Trouble]:
    return {V1: Trouble(Verb.INSTALL, SPEC, NOW + 5.0, "InstallFailed", message, restarts=1)}


def flight(sent_at: float) -> Mapping[str, InFlight]:
    return {"a": InFlight(OrderId("o"), Verb.INSTALL, SPEC, UNKNOWN, 600.0, sent_at, "g")}


def situation(modules: Modules, **changes: object) -> vpod.Situation:
    base = Base(PROFILE.base, VNODE, PROFILE, 0.0, phase=Phase.READY, modules=modules)
    releases = {(wish.pod, wish.spec.key.name): wish.release for wish in wishes(PODS, PLACE)}
    found = vpod.Situation(base, releases, frozenset(), {}, NOW, WALL)
    return replace(found, **changes)  # type: ignore[arg-type]


def of_base(**changes: object) -> vpod.Situation:
    found = situation(Modules(listed=True, present=ACTIVE))
    return replace(found, base=replace(found.base, **changes))  # type: ignore[arg-type]


def reading(*, ready: bool) -> Mapping[tuple[str, str], Reading]:
    return {(PODS[0].uid, "a"): Reading(rfc3339(WALL), started=True, ready=ready, why="" if ready else "no")}


ALL_ACTIVE = Modules(listed=True, present=ACTIVE)
NOTHING = Modules(listed=True)
ORDERED = replace(NOTHING, in_flight=flight(NOW))
SITUATIONS: Mapping[str, Sequence[vpod.Situation]] = {
    "present": [situation(Modules(listed=True, present=each)) for each in (ACTIVE, STARTING, {})],
    "listed": [situation(ALL_ACTIVE), situation(replace(ALL_ACTIVE, listed=False))],
    "troubles": [situation(replace(NOTHING, troubles=each)) for each in ({}, trouble("first"), trouble("second"))],
    "another version beside a failure": [
        situation(replace(NOTHING, troubles=trouble("x"), present=there(**{version: ModuleState.ACTIVATED})))
        for version in ("a2", "a3", "b2")
    ],
    "owned": [situation(replace(ALL_ACTIVE, owned=each)) for each in ({}, {V1: Release("another")})],
    "order": [situation(replace(NOTHING, in_flight=each)) for each in ({}, flight(NOW), flight(NOW - 60.0))],
    "time of an order": [situation(ORDERED, now=NOW + late) for late in (0.0, 60.0)],
    "superseded": [situation(ALL_ACTIVE, superseded=each) for each in (frozenset(), frozenset({(PODS[0].uid, V1)}))],
    "held": [situation(NOTHING, held=each) for each in (frozenset(), frozenset({PODS[1].uid}))],
    "readings": [situation(ALL_ACTIVE, readings=each) for each in ({}, reading(ready=True), reading(ready=False))],
    "unreachable": [of_base(), of_base(phase=Phase.UNREACHABLE, why="away"), of_base(phase=Phase.UNREACHABLE, why="x")],
    "address": [of_base(), of_base(profile=replace(PROFILE, address=Address("10.9.9.9", 1238)))],
}


def settled(statuses: vpod.Statuses, pods: Sequence[Pod], now: vpod.Situation) -> list[Pod]:
    """Return the Pods after their statuses were written, and seen to be right."""
    statuses.enter(now)
    for _ in range(2):
        pods = [replace(one, status=statuses.of(one) or one.status) if statuses.of(one) else one for one in pods]
    return list(pods)


@pytest.mark.parametrize("what", SITUATIONS)
def test_a_status_is_judged_again_when_what_it_follows_from_changed(what: str) -> None:
    differing = 0
    for before, after in permutations(SITUATIONS[what], 2):
        statuses = vpod.Statuses()
        pods = settled(statuses, PODS, before)
        statuses.enter(after)
        due = [vpod.pod_status(one, after) for one in pods]
        assert [statuses.of(one) for one in pods] == due
        differing += any(status is not None for status in due)
    assert differing, "the test shows nothing"


def test_a_status_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    whole = vpod.pod_status

    def counted(which: Pod, now: vpod.Situation) -> PodStatus | None:
        judged.append(which.name)
        return whole(which, now)

    monkeypatch.setattr(vpod, "pod_status", counted)
    statuses = vpod.Statuses()
    statuses.enter(situation(NOTHING))
    due = [statuses.of(one) for one in PODS]
    assert None not in due
    assert [statuses.of(one) for one in PODS] == due
    assert judged == ["p1", "p2"]
    pods = settled(statuses, PODS, situation(ALL_ACTIVE, readings=reading(ready=True)))
    judged.clear()
    # A list that says the same is made of other objects.
    same = Modules(listed=True, present=there(**{f"{k.name}{k.version}": m.state for k, m in ACTIVE.items()}))
    statuses.enter(situation(same, readings=reading(ready=True)))
    assert [statuses.of(one) for one in pods] == [None, None]
    assert judged == []
    statuses.enter(situation(replace(same, present=STARTING), readings=reading(ready=True)))
    assert statuses.of(pods[0]) is not None
    assert statuses.of(pods[1]) is None
    assert judged == ["p1"]


def test_a_new_pod_waits_for_its_modules_as_long_as_its_status_would_say_no_more() -> None:
    uninstalling = {V1: Trouble(Verb.UNINSTALL, SPEC, NOW + 5.0, "UninstallFailed", "x")}
    more = [
        situation(replace(NOTHING, troubles=uninstalling)),
        situation(NOTHING, superseded=frozenset({(PODS[0].uid, V1)})),
        situation(Modules(listed=False)),
    ]
    new = [replace(one, status=PodStatus()) for one in PODS]
    limited = replace(new[0], active_deadline=60, status=PodStatus(start_time=rfc3339(WALL - 61.0)))
    strange = [limited, replace(limited, active_deadline=90), pod("p3", replace(biz("a"), image=""))]
    strange += settled(vpod.Statuses(), PODS, situation(ORDERED))
    ended = replace(new[0], status=PodStatus(phase="Failed"))
    outcomes = set()
    for now in [*more, *(each for several in SITUATIONS.values() for each in several)]:
        for one in (*new, *strange, ended):
            status = vpod.pod_status(one, now)
            only = status is not None and status.phase == "Pending" and not one.status.containers
            said = {container.reason for container in status.containers} if status else set()
            expected = only and said <= {"Pending", "Installing"}
            assert vpod.waits(one, now) is expected, (one, now, status)
            outcomes.add(expected)
    assert outcomes == {False, True}


def test_a_pod_that_changed_is_judged_again_and_one_that_is_gone_is_forgotten() -> None:
    statuses, now = vpod.Statuses(), situation(ALL_ACTIVE)
    pods = settled(statuses, PODS, now)
    assert statuses.of(replace(pods[1], status=PodStatus())) is not None
    assert statuses.of(pods[1]) is None
    statuses.keep({pods[0].uid})
    assert pods[1].uid not in statuses._judged


def test_a_deadline_is_judged_each_time() -> None:
    statuses, now = vpod.Statuses(), situation(ALL_ACTIVE)
    limited = [replace(one, active_deadline=60) for one in PODS]
    pods = settled(statuses, limited, now)
    assert [statuses.of(one) for one in pods] == [None, None]
    statuses.enter(replace(now, wall=WALL + 61.0))
    assert [status.reason for one in pods if (status := statuses.of(one))] == ["DeadlineExceeded"] * 2


def test_wishes_follow_the_place_and_the_pod() -> None:
    found, one = Wishes(), pod("p", replace(biz(), memory=0))
    here = found.of([one], PLACE)
    assert found.of([one], PLACE)[0] is here[0]
    assert found.of([one], replace(PLACE, memory="1Gi"))[0] is not here[0]
    assert found.of([replace(one, resource_version="2", deleting=True)], PLACE)[0].leaving
