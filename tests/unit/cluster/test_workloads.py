"""Deployments and DaemonSets are read from JSON, whole and broken."""

from typing import Any

import pytest

from controlplane.cluster.reading import workload
from controlplane.domain.objects import Requirement

TEMPLATE = {"spec": {"containers": [{"name": "biz1", "image": "u", "env": [{"name": "BIZ_VERSION", "value": "1"}]}]}}


def obj(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ns", "name": "w", "generation": 3},
        "spec": {"template": TEMPLATE, **spec},
        "status": status,
    }


def test_a_deployment_is_read() -> None:
    found = workload(
        "Deployment",
        obj(
            {
                "replicas": 3,
                "selector": {
                    "matchLabels": {"app": "w"},
                    "matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}],
                },
            },
            {"observedGeneration": 3, "replicas": 4, "updatedReplicas": 2, "availableReplicas": 1},
        ),
    )
    assert (found.desired, found.updated, found.available, found.total) == (3, 2, 1, 4)
    assert found.observed
    assert found.selector == (Requirement("app", "In", ("w",)), Requirement("x", "NotIn", ("y",)))
    assert found.containers[0].version == "1"
    assert found.failure == ""


def test_a_daemonset_is_read() -> None:
    status = {"observedGeneration": 2, "desiredNumberScheduled": 5, "updatedNumberScheduled": 4, "numberAvailable": 3}
    found = workload("DaemonSet", obj({}, status))
    assert (found.observed, found.desired, found.updated, found.available) == (False, 5, 4, 3)
    assert found.total == found.updated


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("Deployment", obj({"replicas": None}, {})),
        ("Deployment", {}),
        ("DaemonSet", {"metadata": None, "spec": [], "status": "x"}),
    ],
)
def test_missing_fields_are_empty(kind: str, broken: dict[str, Any]) -> None:
    found = workload(kind, broken)
    assert found.desired == (1 if kind == "Deployment" else 0)
    assert found.updated == 0


def test_a_rollout_without_progress_is_a_failure() -> None:
    condition = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    late = workload("Deployment", obj({}, {"conditions": [condition]}))
    assert late.failure == "ProgressDeadlineExceeded: timed out"
    by_hand = workload("DaemonSet", obj({"updateStrategy": {"type": "OnDelete"}}, {}))
    assert "OnDelete" in by_hand.failure
