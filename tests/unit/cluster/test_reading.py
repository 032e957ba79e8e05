"""Objects of the API give views of proper types, whatever they hold."""

from typing import Any

from hypothesis import given

from controlplane.cluster import reading
from controlplane.cluster.reading import FOREIGN_ANNOTATION_LIMIT
from controlplane.domain.objects import (
    Condition,
    Container,
    ContainerStatus,
    NodeTerm,
    NotUnderstood,
    Requirement,
    SchedulingRules,
    Toleration,
)
from tests.unit.cluster.distorted import distorted

_META = {
    "name": "p",
    "namespace": "n",
    "labels": {"a": "b"},
    "annotations": {"a": "b"},
    "ownerReferences": [{"uid": "u", "controller": True}],
    "generation": 1,
    "deletionGracePeriodSeconds": 1,
}
_CONTAINERS = [{"name": "c", "image": "i", "args": ["a"], "env": [{"name": "BIZ_VERSION", "value": "1"}]}]
_POD = {
    "metadata": _META,
    "spec": {"nodeName": "x", "containers": _CONTAINERS, "readinessGates": [{"conditionType": "g"}]},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"state": {"terminated": {"reason": "r", "exitCode": 1}}, "restartCount": 1}],
    },
}
_NODE = {
    "metadata": _META,
    "spec": {"taints": [{"key": "k", "effect": "NoExecute"}], "unschedulable": True},
    "status": {
        "addresses": [{"type": "t", "address": "a"}],
        "capacity": {"pods": "1"},
        "nodeInfo": {"architecture": "a"},
    },
}
_LEASE = {"metadata": _META, "spec": {"holderIdentity": "h", "leaseTransitions": 1, "leaseDurationSeconds": 40}}
_TERM = {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
_DEPLOYMENT = {
    "metadata": _META,
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {
                "containers": _CONTAINERS,
                "nodeSelector": {"a": "b"},
                "tolerations": [{"key": "k"}],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM, _TERM]}
                    }
                },
            }
        },
    },
}


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


@given(distorted(_POD).filter(_is_object))
def test_a_distorted_pod_gives_a_view_of_proper_types(obj: dict[str, Any]) -> None:
    reading.key(obj)
    pod = reading.pod(obj)
    assert all(isinstance(container.name, str) and isinstance(container.image, str) for container in pod.containers)
    assert all(isinstance(value, str) for value in (*pod.labels, *pod.labels.values(), pod.node_name, pod.uid))
    assert all(isinstance(status.restart_count, int) for status in pod.status.containers)
    foreign = reading.foreign_pod(obj)
    assert (foreign.key, foreign.uid, foreign.node_name) == (pod.key, pod.uid, pod.node_name)
    assert (foreign.owner_kind, foreign.deleting) == (pod.owner_kind, pod.deleting)
    assert isinstance(foreign.status.phase, str)


@given(distorted(_NODE).filter(_is_object))
def test_a_distorted_node_gives_a_view_of_proper_types(obj: dict[str, Any]) -> None:
    node = reading.node(obj)
    assert all(isinstance(taint.key, str) for taint in node.taints)
    assert all(isinstance(part, str) for address in node.status.addresses for part in address)


@given(distorted(_LEASE).filter(_is_object))
def test_a_distorted_lease_gives_a_view_of_proper_types(obj: dict[str, Any]) -> None:
    lease = reading.lease(obj)
    assert type(lease.transitions) is int
    assert type(lease.duration_seconds) is int


@given(distorted(_DEPLOYMENT).filter(_is_object))
def test_a_distorted_deployment_gives_a_view_of_proper_types(obj: dict[str, Any]) -> None:
    deployment = reading.module_deployment(obj)
    assert deployment.replicas is None or type(deployment.replicas) is int
    assert isinstance(deployment.rules, SchedulingRules | NotUnderstood)
    assert isinstance(deployment.beyond_node, str)


def test_a_pod_is_read() -> None:
    pod = reading.pod(
        {
            "metadata": {
                "name": "biz1",
                "namespace": "ns",
                "uid": "u",
                "resourceVersion": "7",
                "labels": {"l": "v", "n": None},
                "annotations": {"module.koupleless.io/install-strategy": "installOnly"},
                "ownerReferences": [{"uid": "other"}, {"uid": "rs", "controller": True}],
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "deletionTimestamp": "2026-01-01T00:01:00Z",
                "deletionGracePeriodSeconds": 0,
                "generation": 3,
            },
            "spec": {
                "nodeName": "vnode.a.dev",
                "initContainers": [{"name": "ignored", "image": "x"}],
                "readinessGates": [{"conditionType": "gate"}],
                "containers": [
                    {
                        "name": "biz1",
                        "image": "https://repo.example/biz1.jar",
                        "args": ["--a", 1],
                        "env": [
                            {"name": "BIZ_VERSION", "value": "0.0.2"},
                            {"name": "BIZ_VERSION", "value": "0.0.1"},
                            {"name": "EMPTY"},
                        ],
                    }
                ],
            },
            "status": {
                "phase": "Running",
                "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "t"}],
                "containerStatuses": [
                    {"name": "biz1", "ready": True, "restartCount": 2, "state": {"running": {"startedAt": "t"}}}
                ],
            },
        }
    )
    assert pod.key == "ns/biz1"
    assert pod.deleting
    assert pod.deletion_grace_seconds == 0
    assert pod.owner_uid == "rs"
    assert pod.labels == {"l": "v"}
    assert pod.readiness_gates == ("gate",)
    assert pod.containers == (
        Container(
            "biz1",
            "https://repo.example/biz1.jar",
            version="0.0.1",
            args=("--a",),
            env=(("BIZ_VERSION", "0.0.2"), ("BIZ_VERSION", "0.0.1"), ("EMPTY", "")),
        ),
    )
    assert pod.status.conditions == (Condition("Ready", "True", last_transition_time="t"),)
    assert pod.status.containers == (ContainerStatus("biz1", "running", True, started_at="t", restart_count=2),)


def test_a_pod_without_status_is_pending() -> None:
    assert reading.pod({"metadata": {"name": "a"}, "status": None}).status.phase == "Pending"


def test_long_annotations_are_kept_only_if_they_are_ours() -> None:
    long = "x" * (FOREIGN_ANNOTATION_LIMIT + 1)
    kept = reading.node(
        {
            "metadata": {
                "name": "n",
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": long,
                    "module.koupleless.io/installed": long,
                    "short": "s",
                },
            }
        }
    ).annotations
    assert kept == {"module.koupleless.io/installed": long, "short": "s"}


def test_nulls_in_a_lease_are_empty_values() -> None:
    lease = reading.lease({"metadata": {"name": "n"}, "spec": {"holderIdentity": None, "leaseTransitions": None}})
    assert (lease.holder, lease.transitions, lease.duration_seconds, lease.renew_time) == ("", 0, 0, "")


def test_a_deployment_is_read() -> None:
    term = {"matchExpressions": [{"key": "c", "operator": "Exists", "values": None}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}, term]}}
    spec = {"affinity": {"nodeAffinity": required}, "tolerations": [{"operator": "Exists"}], "schedulingGates": [{}]}
    obj: dict[str, Any] = {
        "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "d"}}, "template": {"spec": spec}},
    }
    deployment = reading.module_deployment(obj)
    assert deployment.rules == SchedulingRules(
        required_affinity=(NodeTerm((Requirement("c", "Exists"),)),), tolerations=(Toleration(operator="Exists"),)
    )
    assert (deployment.replicas, deployment.beyond_node) == (2, "schedulingGates")
    assert deployment.selector == (Requirement("app", "In", ("d",)),)


def test_a_deployment_whose_selector_is_not_understood_is_not_understood() -> None:
    deployment = reading.module_deployment({"metadata": {"name": "d"}, "spec": {"selector": {"matchNames": ["d"]}}})
    assert deployment.rules == NotUnderstood("spec.selector.matchNames (unknown field)")
    assert deployment.selector is None
