"""Pods with activeDeadlineSeconds: the time that remains, and how they fail."""

from dataclasses import replace

import pytest

from controlplane.domain.base import deadline
from controlplane.domain.base.wishes import wishes
from controlplane.domain.objects import Condition, ContainerStatus, Pod, PodStatus
from tests.unit.domain.base.pods import PLACE, pod

BEGAN = 1_790_000_000.0
START = "2026-09-21T14:13:20Z"
RUNNING = ContainerStatus("a", "running", True, started_at=START, started=True)
READY = Condition("Ready", "True", "", "", START)
SCHEDULED = Condition("PodScheduled", "True", "", "", START)


def limited(seconds: int | None = 60, *, phase: str = "Running", start: str = START) -> Pod:
    status = PodStatus(phase, start_time=start, conditions=(SCHEDULED, READY), containers=(RUNNING,))
    return replace(pod(), active_deadline=seconds, status=status)


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (limited(), 60.0),
        (limited(1), 1.0),
        (limited(None), None),
        (limited(phase="Failed"), None),
        (limited(phase="Succeeded"), None),
        (limited(start=""), None),
        (limited(start="nonsense"), None),
    ],
)
def test_time_remains_until_the_deadline(which: Pod, left: float | None) -> None:
    assert deadline.remaining(which, BEGAN) == left


def test_no_time_remains_after_the_deadline() -> None:
    assert deadline.remaining(limited(), BEGAN + 60) == 0
    assert deadline.remaining(limited(), BEGAN + 1e6) == 0


def test_the_earliest_deadline_is_next() -> None:
    assert deadline.next_at([limited(90), limited(60), limited(None)], 100.0, BEGAN + 10) == 150.0
    assert deadline.next_at([limited(None)], 100.0, BEGAN) is None
    assert deadline.next_at([limited(60), limited(90)], 100.0, BEGAN + 70) == 120.0, "the first is due already"


def test_a_pod_after_its_deadline_has_failed_permanently() -> None:
    status = deadline.failed(limited(), BEGAN + 61)
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert {c.type: (c.status, c.reason) for c in status.conditions} == {
        "Ready": ("False", "PodFailed"),
        "ContainersReady": ("False", "PodFailed"),
        "PodScheduled": ("True", ""),
    }
    (container,) = status.containers
    assert (container.kind, container.ready, container.started) == ("terminated", False, False)
    assert (container.started_at, container.finished_at) == (START, "2026-09-21T14:14:21Z")
    assert deadline.has_failed(replace(limited(), status=status))


def test_modules_of_a_failed_pod_leave() -> None:
    assert [wish.leaving for wish in wishes([limited()], PLACE)] == [False]
    failed = replace(limited(), status=deadline.failed(limited(), BEGAN + 61))
    assert [wish.leaving for wish in wishes([failed], PLACE)] == [True]
    assert wishes([limited(phase="Failed")], PLACE) == ()
