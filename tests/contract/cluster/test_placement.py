"""The real scheduler and our rules choose the same Nodes, for every rule of the table.

Each case has as many Pods as there are Nodes, and no two of them may be on one Node: the scheduler puts one on each
Node that the rules allow, and leaves the others Pending.
"""

from collections import defaultdict

import pytest

from controlplane.cluster import reading, scheduling
from controlplane.domain.objects import Node, SchedulingRules
from controlplane.domain.workloads.placement import admits
from tests.placements import CASES, NODES, REQUIRED, Case
from tests.programs import eventually
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import Json

pytestmark = pytest.mark.timeout(180)

PODS = "/api/v1/namespaces/default/pods"
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": None}


def pods_of(case: Case) -> list[Json]:
    spec = dict(case.pod_spec)
    apart = {"labelSelector": {"matchLabels": {"case": case.name}}, "topologyKey": "kubernetes.io/hostname"}
    spec["affinity"] = {**spec.get("affinity", {}), "podAntiAffinity": {REQUIRED: [apart]}}
    spec["containers"] = [{"name": "biz", "image": "https://repo.example/biz.jar"}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{case.name}-{number}", "labels": {"case": case.name}},
            "spec": spec,
        }
        for number in range(len(NODES))
    ]


def scheduled(pod: Json) -> str | None:
    """Return the Pod's Node, empty when the scheduler found none, None until it has tried."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    conditions = pod.get("status", {}).get("conditions", [])
    return "" if any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions) else None


def test_scheduler_and_we_agree(kube: KubeCluster) -> None:
    for name, node in NODES.items():
        labels = {**node["metadata"]["labels"], "kubernetes.io/hostname": name}
        status = {"conditions": [READY], "allocatable": {"pods": "1000"}, "capacity": {"pods": "1000"}}
        kube.api.create("/api/v1/nodes", {**node, "metadata": {"name": name, "labels": labels}, "status": status})

    def seen() -> list[Node]:
        return [reading.node(obj) for obj in kube.api.items("/api/v1/nodes")]

    cordon = "node.kubernetes.io/unschedulable"
    eventually(
        lambda: (
            {taint.key for node in seen() for taint in node.taints} & {"node.kubernetes.io/not-ready", cordon}
            == {cordon}
        ),
        within=60,
        what="Nodes that the node controller has seen as Ready",
    )
    for case in CASES:
        for pod in pods_of(case):
            kube.api.create(PODS, pod)
    eventually(
        lambda: all(scheduled(pod) is not None for pod in kube.api.items(PODS)),
        within=90,
        what="the scheduler's decision on every Pod",
    )
    theirs: dict[str, set[str]] = defaultdict(set)
    ours: dict[str, set[str]] = defaultdict(set)
    nodes = seen()
    for pod in kube.api.items(PODS):
        name = pod["metadata"]["labels"]["case"]
        theirs[name] |= {scheduled(pod) or ""} - {""}
        rules = scheduling.rules({key: value for key, value in pod["spec"].items() if key != "nodeName"})
        assert isinstance(rules, SchedulingRules), rules
        ours[name] |= {node.name for node in nodes if admits(rules, node)}
    assert theirs == ours
    assert theirs == {case.name: set(case.nodes) for case in CASES}
