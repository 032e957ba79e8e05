"""A VNode is a Node that a cluster's users can rely on."""

import pytest

from tests.integration.main_job.conftest import NODES, PODS, Stage, module_pod
from tests.integration.nodes.conftest import run_kubectl
from tests.programs import eventually
from tests.servers.kubeapi import Json

pytestmark = pytest.mark.timeout(180)

B1 = "vnode.b1.dev"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
LIMIT = "koupleless.alipay.com/max-module-count"


def test_bases_of_one_host_have_a_pod_each_of_those_that_stay_apart_by_hostname(stage: Stage) -> None:
    for base in ("b1", "b2"):
        stage.base(base, "--host-name", "shared")
        stage.wait_node_ready(base)
    term = {"labelSelector": {"matchLabels": {"app": "biz1"}}, "topologyKey": "kubernetes.io/hostname"}
    for name in ("p1", "p2"):
        pod = module_pod(name, "biz1", "0.0.1")
        pod["metadata"]["labels"]["app"] = "biz1"
        pod["spec"]["affinity"]["podAntiAffinity"] = {REQUIRED: [term]}
        stage.kube.api.create(PODS, pod)
    assert {stage.wait_pod_ready(name)["spec"]["nodeName"] for name in ("p1", "p2")} == {B1, "vnode.b2.dev"}


def test_pods_with_the_requests_of_a_limit_range_are_placed_and_kubectl_describes_the_node(stage: Stage) -> None:
    stage.base("b1")
    stage.wait_node_ready("b1")
    limits = {"type": "Container", "defaultRequest": {"cpu": "250m", "memory": "16Mi", "ephemeral-storage": "1Gi"}}
    limit_range = {"metadata": {"name": "defaults"}, "spec": {"limits": [limits]}}
    stage.kube.api.create("/api/v1/namespaces/default/limitranges", limit_range)
    stage.create_pod("biz1")
    pod = stage.wait_pod_ready("biz1")
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "250m"
    described = run_kubectl(stage, "describe", "node", B1)
    assert "-9223372036854775808" not in described
    assert "<unknown>" not in described
    allocated = described.partition("Allocated resources:")[2].split()
    assert allocated[allocated.index("cpu") + 1 :][:2] == ["250m", "(12%)"]
    assert "Machine ID:                 b1" in described


def test_what_operators_put_on_a_node_comes_back_with_it(stage: Stage) -> None:
    base = stage.base("b1")
    stage.wait_node_ready("b1")
    run_kubectl(stage, "cordon", B1)
    run_kubectl(stage, "label", "node", B1, "rack=r1")
    run_kubectl(stage, "annotate", "node", B1, "example.com/note=n")
    run_kubectl(stage, "taint", "node", B1, "team=a:NoSchedule")
    shown = eventually(
        lambda: [one for one in stage.control_plane.mctl().items("get", "vnodes") if one["unschedulable"]],
        within=10,
        what="the cordon in what mctl shows",
    )
    assert shown[0]["labels"]["rack"] == "r1"
    assert "Ready,SchedulingDisabled" in stage.control_plane.mctl()("get", "vnodes")
    base.control("deactivate")
    eventually(lambda: stage.node("b1") is None, within=20, what="Node gone")
    base.control("start")
    assert_as_it_was(stage)
    run_kubectl(stage, "delete", "node", B1)
    assert_as_it_was(stage)


def assert_as_it_was(stage: Stage) -> None:
    node = stage.wait_node_ready("b1")
    assert node["metadata"]["labels"]["rack"] == "r1"
    assert node["metadata"]["annotations"]["example.com/note"] == "n"
    assert {"key": "team", "value": "a", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert "SchedulingDisabled" in run_kubectl(stage, "get", "node", B1)


def test_the_label_of_its_pod_limits_the_modules_of_a_base(stage: Stage) -> None:
    pod = base_pod("shop-0", "1")
    stage.kube.api.create(PODS, pod)
    stage.kube.api.patch(f"{PODS}/shop-0/status", {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}})
    stage.base("b1", "--host-name", "shop-0")
    node = stage.wait_node_ready("b1")
    assert node["status"]["capacity"]["pods"] == node["status"]["allocatable"]["pods"] == "1"
    stage.create_pod("biz1")
    stage.wait_pod_ready("biz1")
    stage.create_pod("biz2", module="biz2")
    eventually(lambda: "Too many pods" in scheduling(stage, "biz2"), within=20, what="a full Node")
    stage.kube.api.patch(f"{PODS}/shop-0", {"metadata": {"labels": {LIMIT: "many"}}})
    eventually(lambda: "ModuleLimitNotUnderstood" in stage.reasons(B1), within=30, what="an Event")
    stage.wait_pod_ready("biz2")
    assert stage.kube.api.get(f"{NODES}/{B1}")["status"]["capacity"]["pods"] == "65535"


def base_pod(name: str, limit: str) -> Json:
    container = {"name": "base", "image": "registry.example/base"}
    return {
        "metadata": {"name": name, "labels": {LIMIT: limit}},
        "spec": {"nodeName": "machine", "containers": [container]},
    }


def scheduling(stage: Stage, name: str) -> str:
    conditions = (stage.pod(name) or {}).get("status", {}).get("conditions", [])
    return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")
