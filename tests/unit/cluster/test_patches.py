"""Patches hold what differs, and read back as what was to be written."""

from dataclasses import replace

from controlplane.cluster import patches, reading
from controlplane.domain.objects import (
    Condition,
    Container,
    ContainerKind,
    ContainerStatus,
    Lease,
    Node,
    NodeStatus,
    OtherContainer,
    Pod,
    PodStatus,
    Taint,
    Toleration,
)

NOW = "2026-01-01T00:00:00Z"
READY = Condition("Ready", "True", "BaseReady", "", NOW)
VIRTUAL = Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute")
STATUS = NodeStatus(
    conditions=(READY,),
    addresses=(("InternalIP", "10.0.0.1"),),
    capacity={"pods": "65535", "memory": "1Gi"},
    allocatable={"pods": "65535"},
    operating_system="linux",
)
SPEC = Node("n", labels={"l": "1"}, annotations={"a": "1"}, taints=(VIRTUAL,), status=STATUS)
NODE = Node(
    "n", "uid", "5", labels={"l": "1", "foreign": "x"}, annotations={"a": "1"}, taints=(VIRTUAL,), status=STATUS
)
RUNNING = ContainerStatus("biz1", "running", True, "url", started_at=NOW)
POD = Pod("ns", "biz1", "uid", "5", "n", (Container("biz1", "url"),))


def test_a_new_node_reads_back_as_its_spec() -> None:
    node = reading.node(patches.new_node(SPEC, NOW))
    assert node == Node("n", "", "", SPEC.labels, SPEC.annotations, SPEC.taints, status=STATUS)


def test_node_metadata_holds_only_what_differs() -> None:
    assert patches.node_metadata(NODE, SPEC) == {}
    changed = replace(SPEC, labels={"l": "2", "m": "3"}, annotations={"a": "1", "b": "2"})
    assert patches.node_metadata(NODE, changed) == {"labels": {"l": "2", "m": "3"}, "annotations": {"b": "2"}}


def test_taints_of_others_stay_as_they_are_and_ours_are_corrected() -> None:
    foreign = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": NOW}
    ours = {"key": VIRTUAL.key, "value": "False", "effect": "NoExecute"}
    other_effect = {"key": VIRTUAL.key, "value": "x", "effect": "NoSchedule"}
    merged = patches.merged_taints({"spec": {"taints": [foreign, ours, other_effect, None]}}, SPEC.taints)
    assert merged == [foreign, other_effect, {"key": VIRTUAL.key, "value": "True", "effect": "NoExecute"}]


def test_node_status_removes_what_is_no_longer_there() -> None:
    current = replace(NODE, status=replace(STATUS, addresses=(("Hostname", "h"), ("InternalIP", "10.0.0.9"))))
    status = replace(STATUS, capacity={"pods": "10"})
    body = patches.node_status(current, status, NOW)["status"]
    assert body["capacity"] == {"pods": "10", "memory": None}
    assert body["addresses"] == [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"$patch": "delete", "type": "Hostname"},
    ]
    assert body["conditions"][0]["lastHeartbeatTime"] == NOW


def test_pod_status_reads_back_and_holds_the_uid() -> None:
    status = PodStatus("Running", "", "", "10.0.0.1", "10.0.0.1", NOW, (READY,), (RUNNING,))
    patch = patches.pod_status(POD, status)
    assert patch["metadata"] == {"uid": "uid"}
    assert reading.pod_status(patch["status"]) == status


def test_every_container_state_reads_back() -> None:
    for status in (
        RUNNING,
        ContainerStatus("a", "waiting", False, "url", "Pending", "words", restart_count=3),
        ContainerStatus("a", "terminated", False, "url", "Stopped", "", NOW, NOW, 1),
        ContainerStatus("a"),
    ):
        patch = patches.pod_status(POD, PodStatus(containers=(status,)))
        assert reading.pod_status(patch["status"]).containers == (status,)


def test_statuses_of_containers_that_are_no_modules_stand_in_the_list_of_their_kind() -> None:
    kinds = {"proxy": ContainerKind.CONTAINER, "init": ContainerKind.INIT, "debug": ContainerKind.EPHEMERAL}
    pod = replace(POD, others=tuple(OtherContainer(kind, name, "i") for name, kind in kinds.items()))
    others = tuple(ContainerStatus(name, "terminated", False, "i", "NotAModule", "words", NOW, NOW) for name in kinds)
    patch = patches.pod_status(pod, PodStatus(containers=(RUNNING,), others=others))
    named = {name: [each["name"] for each in value] for name, value in patch["status"].items() if "Statuses" in name}
    assert named == {
        "containerStatuses": [RUNNING.name, "proxy"],
        "initContainerStatuses": ["init"],
        "ephemeralContainerStatuses": ["debug"],
    }
    assert reading.pod_status(patch["status"], frozenset(kinds)).others == others


def test_conditions_that_the_pod_has_are_not_written_again() -> None:
    scheduled = Condition("PodScheduled", "True", "", "", NOW)
    pod = replace(POD, status=PodStatus(conditions=(scheduled, replace(READY, status="False"))))
    patch = patches.pod_status(pod, PodStatus(conditions=(scheduled, READY)))
    assert [condition["type"] for condition in patch["status"]["conditions"]] == ["Ready"]


def test_lease_reads_back_and_its_patch_holds_the_version() -> None:
    lease = Lease("ns", "l", "", "me", 40, NOW, NOW, 7, {"l": "v"}, {"a": "b"})
    assert reading.lease(patches.new_lease(lease)) == lease
    patch = patches.lease(replace(lease, resource_version="9"))
    assert patch["metadata"] == {"resourceVersion": "9", "annotations": {"a": "b"}}
    assert patch["spec"]["holderIdentity"] == "me"


def test_a_released_lease_has_an_empty_holder_as_the_original_needs_the_field() -> None:
    assert patches.lease(Lease("ns", "l", "9"))["spec"]["holderIdentity"] == ""


def test_a_new_pod_is_bound_and_carries_its_version_once() -> None:
    container = Container("biz1", "url", "0.0.1", ("a",), (("BIZ_VERSION", "other"), ("K", "V")))
    wanted = Pod("ns", "p", "", "", "n", (container,), labels={"l": "v"}, tolerations=(Toleration(operator="Exists"),))
    body = patches.new_pod(wanted)
    pod = reading.pod(body)
    assert pod.node_name == "n"
    assert pod.containers == (replace(container, env=(("BIZ_VERSION", "0.0.1"), ("K", "V"))),)
    assert body["spec"]["tolerations"] == [{"operator": "Exists"}]
