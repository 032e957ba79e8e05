"""The liveness of a child follows from its answers and from their absence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modulecontroller.children import PATIENCE, RESTART, Liveness, Patience
from modulecontroller.settings import SupervisorSettings
from modulecontroller.supervisor import AFTER_ORDERS

STEP = PATIENCE.answer
DEPLOY = Path(__file__).parents[3] / "deploy"
USUAL_START = 20.0
"""Seconds until a control plane answers, on a machine with little CPU."""


@pytest.fixture
def child() -> Liveness:
    return Liveness(Patience(start=120.0, silence=30.0))


def miss(child: Liveness, seconds: float) -> None:
    for _ in range(round(seconds / STEP)):
        child.missed(STEP)


def test_a_process_that_answered_may_be_silent_for_30_s(child: Liveness) -> None:
    child.process_started()
    child.process_answered()
    miss(child, 25)
    assert (child.fault, child.trouble) == ("", "")
    miss(child, 5)
    assert child.fault == child.trouble == "has not answered for 30 s"


def test_one_answer_ends_the_silence(child: Liveness) -> None:
    child.process_started()
    child.process_answered()
    miss(child, 25)
    child.process_answered()
    miss(child, 25)
    assert not child.fault


def test_a_start_has_its_own_time_limit_and_is_no_trouble(child: Liveness) -> None:
    child.process_started()
    miss(child, 115)
    assert (child.fault, child.trouble) == ("", "")
    miss(child, 5)
    assert (child.fault, child.trouble) == ("did not answer within 120 s of its start", "")


def test_a_new_process_has_its_time_to_start_while_the_trouble_lasts(child: Liveness) -> None:
    child.process_started()
    child.process_answered()
    miss(child, 30)
    child.process_started()
    assert (child.fault, child.trouble) == ("", "has not answered for 30 s")
    miss(child, 30)
    assert (child.fault, child.trouble) == ("", "has not answered for 60 s")
    child.process_answered()
    assert (child.fault, child.trouble) == ("", "")


def test_processes_that_die_before_they_answer_are_trouble(child: Liveness) -> None:
    child.process_started()
    child.process_answered()
    for _ in range(3):
        child.process_started()
        miss(child, 10)
    assert child.trouble == "has not answered for 30 s"


@pytest.mark.parametrize("manifest", ["module-controller.yaml", "pod.yaml"])
def test_manifests_allow_the_time_that_children_need(manifest: str) -> None:
    pod = pod_spec(yaml.safe_load((DEPLOY / manifest).read_text().split("\n---\n")[0]))
    (container,) = pod["containers"]
    probe = container["livenessProbe"]
    # /livez fails from the moment at which a child is ended to be replaced, until the next process answers.
    restarts_after = probe["failureThreshold"] * probe.get("periodSeconds", 10)
    assert restarts_after > PATIENCE.stop_silent + RESTART.first + USUAL_START
    settings = SupervisorSettings.model_validate({})
    ends_within = settings.shutdown_timeout + AFTER_ORDERS + PATIENCE.stop
    assert pod.get("terminationGracePeriodSeconds", 30) > ends_within


def pod_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    return spec if manifest["kind"] == "Pod" else pod_spec({"kind": "Pod", **spec["template"]})
