"""The status of a Pod follows from the modules of its base."""

from dataclasses import replace

import pytest

from controlplane.domain.base import vpod
from controlplane.domain.base.modules import InFlight, Modules, Trouble
from controlplane.domain.base.releases import Release, release
from controlplane.domain.base.vpod import superseded
from controlplane.domain.base.wishes import module_spec, wishes
from controlplane.domain.facts import Module, ModuleState, Verb
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.domain.objects import (
    Condition,
    ContainerKind,
    ContainerStatus,
    OtherContainer,
    Pod,
    PodStatus,
)
from controlplane.domain.times import rfc3339
from tests.unit.domain.base.pods import PLACE, biz, pod, pod_status, reported

KEY = ModuleKey("a", "1")
WALL = 1_790_000_000.0


def active(version: str = "1", state: ModuleState = ModuleState.ACTIVATED, *, name: str = "a", at: int = 0) -> Module:
    return Module(ModuleKey(name, version), state, changed_at=at or None)


def status(which: Pod, modules: Modules, *, unreachable: str = "", wall: float = WALL, now: float = 100.0) -> PodStatus:
    """The status after it was written."""
    gone = superseded(wishes([which], PLACE), modules)
    return pod_status(which, modules, unreachable=unreachable, superseded=gone, now=now, wall=wall) or which.status


def written(which: Pod, modules: Modules, *, wall: float = WALL) -> Pod:
    return replace(which, status=status(which, modules, wall=wall))


def ready(found: PodStatus) -> Condition:
    return next(condition for condition in found.conditions if condition.type == "Ready")


def test_nothing_is_written_before_the_base_lists_its_modules() -> None:
    assert pod_status(pod(), Modules(), superseded=frozenset(), now=0.0, wall=WALL) is None


def test_a_current_status_is_not_written_again_however_late_it_is() -> None:
    running = written(pod(), reported(active()))
    assert pod_status(running, reported(active()), superseded=frozenset(), now=9e9, wall=WALL + 1e6) is None


def test_a_change_is_seen_whatever_the_second_of_the_minute() -> None:
    """Ready at second 50, broken at second 10 of a later minute: the later one holds."""
    at_50, at_10 = 1_790_000_030_000, 1_790_000_050_000
    assert (at_50 // 1000 % 60, at_10 // 1000 % 60) == (50, 10)
    running = written(pod(), reported(active(at=at_50)))
    broken = status(running, reported(active(state=ModuleState.BROKEN, at=at_10)))
    assert (ready(running.status).status, ready(broken).status) == ("True", "False")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ModuleState.RESOLVED, "Starting"),
        (ModuleState.BROKEN, "Broken"),
        (ModuleState.DEACTIVATED, "Deactivated"),
    ],
)
def test_a_module_that_does_not_serve_says_why(state: ModuleState, reason: str) -> None:
    found = status(pod(), reported(active(state=state)))
    (container,) = found.containers
    assert (container.kind, container.ready, container.reason) == ("waiting", False, reason)
    assert (found.phase, ready(found).status) == ("Pending", "False")


def test_a_module_that_broke_leaves_its_pod_running_and_not_ready() -> None:
    running = written(pod(), reported(active()))
    found = status(running, reported(active(state=ModuleState.BROKEN)))
    assert (found.phase, ready(found).status, ready(found).reason) == ("Running", "False", "ContainersNotReady")


def test_a_module_that_went_never_makes_its_pod_succeeded() -> None:
    running = written(pod(), reported(active()))
    found = status(running, reported())
    assert (found.phase, found.containers[0].kind) == ("Running", "waiting")


def test_each_container_is_judged_by_its_own_module() -> None:
    group = pod("p", biz("a"), biz("b"))
    found = status(group, reported(active(), active(name="b", state=ModuleState.BROKEN)))
    assert [(c.name, c.ready) for c in found.containers] == [("a", True), ("b", False)]
    assert (found.phase, ready(found).status) == ("Running", "False")
    assert "b (Broken)" in ready(found).message


@pytest.mark.parametrize("image", ["https://r/download?id=1", "oci://r/a:1", "a"])
def test_an_image_is_a_module_whatever_its_name(image: str) -> None:
    found = status(pod("p", biz(image=image)), reported(active()))
    assert (found.phase, ready(found).status) == ("Running", "True")


def test_readiness_waits_for_gates_and_conditions_of_others_stay() -> None:
    scheduled = Condition("PodScheduled", "True", last_transition_time="2026-01-01T00:00:00Z")
    gate = Condition("gate", "False", last_transition_time="2026-01-01T00:00:00Z")
    waiting = replace(pod(gates=("gate",)), status=PodStatus(conditions=(scheduled, gate)))
    found = status(waiting, reported(active()))
    assert (ready(found).status, ready(found).reason) == ("False", "ReadinessGatesNotReady")
    assert {scheduled, gate} <= set(found.conditions)
    opened = replace(gate, status="True")
    found = status(replace(waiting, status=replace(found, conditions=(scheduled, opened))), reported(active()))
    assert ready(found).status == "True"
    assert {scheduled, opened} <= set(found.conditions)


def test_transition_times_move_only_with_the_status() -> None:
    running = written(pod(), reported(active()))
    since = ready(running.status).last_transition_time
    again = replace(running, status=replace(running.status, phase="Pending"))
    assert ready(status(again, reported(active()), wall=WALL + 60)).last_transition_time == since
    broken = status(running, reported(active(state=ModuleState.BROKEN)), wall=WALL + 60)
    assert ready(broken).last_transition_time == rfc3339(WALL + 60)


def test_a_status_that_somebody_else_wrote_is_corrected() -> None:
    running = written(pod(), reported(active()))
    edited = replace(running.status, phase="Pending", reason="NodeLost", conditions=(Condition("Ready", "False"),))
    found = status(replace(running, status=edited), reported(active()))
    assert (found.phase, found.reason, ready(found).status) == ("Running", "", "True")


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_written_no_more(phase: str) -> None:
    running = written(pod(), reported(active()))
    ended = replace(running, status=replace(running.status, phase=phase))
    assert pod_status(ended, reported(active()), superseded=frozenset(), now=100.0, wall=WALL) is None


def test_ready_comes_first_and_another_order_of_conditions_is_not_corrected() -> None:
    scheduled = Condition("PodScheduled", "True")
    before = replace(pod(), status=replace(pod().status, conditions=(scheduled,)))
    running = written(before, reported(active()))
    assert [c.type for c in running.status.conditions] == ["Ready", "ContainersReady", "Initialized", "PodScheduled"]
    turned = replace(running, status=replace(running.status, conditions=running.status.conditions[::-1]))
    assert pod_status(turned, reported(active()), superseded=frozenset(), now=100.0, wall=WALL) is None


def test_an_unreachable_base_makes_its_pods_not_ready() -> None:
    running = written(pod(), reported(active()))
    found = status(running, reported(active()), unreachable="no sign of life for 25 s")
    assert (ready(found).status, ready(found).reason) == ("False", "BaseUnreachable")
    assert found.containers[0].kind == "running"


def trouble(reason: str, *, verb: Verb = Verb.INSTALL, failures: int = 3) -> Trouble:
    spec = module_spec(pod(), biz(), PLACE)
    return Trouble(verb, spec, 0.0, reason, "java.lang.Boom", failures, restarts=failures)


def test_a_failed_install_shows_reason_message_and_how_often() -> None:
    state = replace(reported(), troubles={KEY: trouble("InstallFailed")})
    (container,) = status(pod(), state).containers
    assert (container.reason, container.message, container.restart_count) == ("InstallFailed", "java.lang.Boom", 3)


def test_the_restart_count_never_falls() -> None:
    before = PodStatus(containers=(ContainerStatus("a", "waiting", restart_count=7),))
    (container,) = status(replace(pod(), status=before), reported(active())).containers
    assert container.restart_count == 7


def test_a_failure_beside_another_version_says_what_may_help() -> None:
    state = replace(reported(active("0")), troubles={KEY: trouble("InstallFailed")})
    (container,) = status(pod(), state).containers
    assert "uninstallThenInstall" in container.message


def test_a_quick_install_costs_no_write_of_its_own_and_a_slow_one_is_shown() -> None:
    flight = InFlight(
        OrderId("o"), Verb.INSTALL, module_spec(pod(), biz(), PLACE), Release(), 700.0, sent_at=100.0, gateway="g"
    )
    state = replace(reported(), in_flight={"a": flight})
    assert status(pod(), state, now=100.5).containers[0].reason == "Pending"
    assert status(pod(), state, now=102.5).containers[0].reason == "Installing"
    assert vpod.next_progress([pod()], state, 100.5) == 102.0


def test_the_pod_of_a_superseded_version_gives_way_once_the_new_one_serves() -> None:
    old, new = pod("old", age=5), pod("new", biz(version="2"), age=1)
    both = wishes([old, new], PLACE)
    assert superseded(both, reported(active())) == frozenset()
    assert superseded(both, reported(active(), active("2", ModuleState.DEACTIVATED))) == frozenset()
    gone = superseded(both, reported(active(), active("2")))
    assert gone == {("uid-old", KEY)}
    found = pod_status(old, reported(active(), active("2")), superseded=gone, now=0.0, wall=WALL)
    assert found is not None
    assert found.containers[0].reason == "Superseded"


def test_pods_that_share_a_module_do_not_supersede_each_other() -> None:
    assert superseded(wishes([pod("old", age=5), pod("new", age=1)], PLACE), reported(active())) == frozenset()


def test_of_two_contents_under_one_version_the_newer_pods_counts() -> None:
    old, new = pod("old", age=5), pod("new", biz(image="https://r/other.jar"), age=1)
    wanted = release(new, new.containers[0])
    state = replace(reported(active()), owned={KEY: wanted})
    assert superseded(wishes([old, new], PLACE), state) == {("uid-old", KEY)}
    stale = replace(reported(active()), owned={KEY: release(old, old.containers[0])})
    assert status(new, stale).containers[0].reason == "Replacing"


def test_a_container_that_is_no_module_does_not_hold_the_pod_back() -> None:
    proxy = OtherContainer(ContainerKind.CONTAINER, "proxy", "istio/proxyv2")
    init = OtherContainer(ContainerKind.INIT, "init", "i")
    found = status(replace(pod(), others=(proxy, init)), reported(active()))
    assert found.phase == "Running"
    assert {c.type: c.status for c in found.conditions} == {
        "Initialized": "True",
        "ContainersReady": "True",
        "Ready": "True",
    }
    assert [(o.name, o.kind, o.ready, o.reason, o.exit_code) for o in found.others] == [
        ("proxy", "terminated", False, "NotAModule", 0),
        ("init", "terminated", False, "NotAModule", 0),
    ]
    assert "container" in found.others[0].message


def test_a_field_that_is_not_supported_is_named() -> None:
    found = status(pod("p", replace(biz(), unsupported="envFrom is not supported here")), reported())
    assert (found.containers[0].reason, found.containers[0].message) == (
        "UnsupportedField",
        "envFrom is not supported here",
    )
