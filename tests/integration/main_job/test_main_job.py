"""Base up -> Node Ready; Pod -> installBiz -> Ready; Pod deleted -> uninstallBiz -> gone; base down -> Node gone."""

import pytest

from tests.integration.main_job.conftest import LEASES, Stage, condition
from tests.programs import eventually, throughout

pytestmark = pytest.mark.timeout(400)


def test_a_base_becomes_a_node_with_all_that_the_original_gives_it(stage: Stage) -> None:
    base = stage.base("10.1.2.3", "--name", "shop-base", "--version", "1.2.3", "--host-name", "shop-0")
    node = stage.wait_node_ready("10.1.2.3")
    # Old versions of Kubernetes add a label of their own to every Node.
    assert node["metadata"]["labels"].pop("beta.kubernetes.io/os", "linux") == "linux"
    assert node["metadata"]["labels"] == {
        "base.koupleless.io/name": "shop-base",
        "base.koupleless.io/version": "1.2.3",
        "base.koupleless.io/cluster-name": "default",
        "base.koupleless.io/host-name": "shop-0",
        "base.koupleless.io/tunnel-port": str(base.port),
        "base.koupleless.io/stack": "java",
        "vnode.koupleless.io/name": "shop-base",
        "vnode.koupleless.io/version": "1.2.3",
        "vnode.koupleless.io/cluster-name": "default",
        "virtual-kubelet.koupleless.io/component": "vnode",
        "virtual-kubelet.koupleless.io/env": "dev",
        "kubernetes.io/hostname": "vnode.10.1.2.3.dev",
        "kubernetes.io/os": "linux",
        "kubernetes.io/role": "agent",
        "type": "virtual-kubelet",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        "kubernetes.azure.com/managed": "false",
        "service.alibabacloud.com/exclude-node": "true",
    }
    taints = {(t["key"], t.get("value", ""), t["effect"]) for t in node["spec"]["taints"]}
    assert {
        ("schedule.koupleless.io/virtual-node", "True", "NoExecute"),
        ("schedule.koupleless.io/node-env", "dev", "NoExecute"),
    } <= taints
    assert node["status"]["addresses"] == [
        {"type": "InternalIP", "address": "127.0.0.1"},
        {"type": "Hostname", "address": "shop-0"},
    ]
    offered = {"cpu": "2", "ephemeral-storage": "1Ti"}
    assert node["status"]["capacity"] == {"pods": "65535", "memory": "256Mi", **offered}
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == "java://1.8.0_402"
    lease = stage.kube.api.get(f"{LEASES}/vnode.10.1.2.3.dev")
    assert lease["spec"]["holderIdentity"] == "controlplane"
    assert lease["spec"]["leaseDurationSeconds"] == 40
    assert lease["metadata"]["labels"]["virtual-kubelet.koupleless.io/component"] == "vnode-lease"
    assert "Node created for base 10.1.2.3" in stage.control_plane.mctl()("events")


def test_a_pod_becomes_a_module_and_leaves_with_it(stage: Stage) -> None:
    base = stage.base("b1")
    stage.wait_node_ready("b1")
    stage.create_pod("biz1")
    pod = stage.wait_pod_ready("biz1")
    assert base.commands() == [
        {"bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": "https://repo.example/biz1-0.0.1.jar"}
    ]
    assert base.modules() == {"biz1:0.0.1": "activated"}
    assert pod["spec"]["nodeName"] == "vnode.b1.dev"
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"] == "127.0.0.1"
    assert condition(pod, "PodScheduled")["status"] == "True"
    assert condition(pod, "ContainersReady")["status"] == "True"
    container = pod["status"]["containerStatuses"][0]
    assert container["ready"]
    assert "startedAt" in container["state"]["running"]
    stage.delete_pod("biz1")
    eventually(lambda: stage.pod("biz1") is None, within=15, what="the Pod gone")
    assert base.modules() == {}
    assert base.commands("uninstallBiz") == [{"bizName": "biz1", "bizVersion": "0.0.1"}]
    shown = stage.control_plane.mctl()("events")
    assert "install of biz1:0.0.1 on b1 done in" in shown
    assert "uninstall of biz1:0.0.1 on b1 done in" in shown
    # What went well is worth no write: the Pod's status says so.
    assert not {"ModuleInstalled", "ModuleUninstalled", "ModuleInstallFailed"} & stage.reasons("biz1")


def test_the_node_of_a_base_that_stops_is_removed(stage: Stage) -> None:
    base = stage.base("b1")
    stage.wait_node_ready("b1")
    stage.create_pod("biz1")
    stage.wait_pod_ready("biz1")
    base.server.stop()
    eventually(lambda: stage.node_ready("b1") == "False", within=40, what="Node NotReady")
    eventually(lambda: not stage.pod_ready("biz1"), within=5, what="Pod not Ready")
    eventually(lambda: stage.node("b1") is None, within=50, what="Node gone")
    eventually(lambda: not held(stage), within=5, what="Lease without a holder")
    lease = stage.find(LEASES, "vnode.b1.dev")
    assert lease is not None, "it keeps the record until the base is back or a week is over"
    assert '"biz1:' in lease["metadata"]["annotations"]["module.koupleless.io/installed"]


def held(stage: Stage) -> bool:
    lease = stage.find(LEASES, "vnode.b1.dev") or {"spec": {}}
    return bool(lease["spec"].get("holderIdentity"))


def test_a_base_that_deactivates_loses_its_node_at_once(stage: Stage) -> None:
    base = stage.base("b1")
    stage.wait_node_ready("b1")
    base.control("deactivate")
    eventually(lambda: stage.node("b1") is None, within=5, what="Node gone")


def test_a_failing_install_says_why_and_heals(stage: Stage) -> None:
    base = stage.base("b1", "--fail-install", "biz1")
    stage.wait_node_ready("b1")
    stage.create_pod("biz1")
    waiting = eventually(
        lambda: (
            ((stage.pod("biz1") or {}).get("status", {}).get("containerStatuses") or [{}])[0]
            .get("state", {})
            .get("waiting", {})
        ),
        within=15,
        what="a container status",
    )
    assert waiting["reason"] == "InstallFailed"
    assert "Internal Error" in waiting["message"]
    eventually(lambda: "ModuleInstallFailed" in stage.reasons("biz1"), within=5, what="an Event of the failure")
    assert not stage.pod_ready("biz1")
    base.control("heal")
    pod = stage.wait_pod_ready("biz1", within=40)
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1


@pytest.mark.parametrize("fault", ["hang?command=installBiz", "drop-replies?command=installBiz"])
def test_an_install_without_answer_delays_nothing_else(stage: Stage, fault: str) -> None:
    base = stage.base("b1")
    stage.wait_node_ready("b1")
    base.control(fault)
    stage.create_pod("biz1")
    eventually(lambda: base.commands("installBiz"), within=15, what="the install at the base")
    base.control("heal")
    stage.create_pod("biz2", module="biz2")
    stage.wait_pod_ready("biz2", within=10)
    throughout(lambda: stage.node_ready("b1") == "True", seconds=2, what="Node Ready")


def test_a_base_restarted_in_place_gets_its_modules_back(stage: Stage) -> None:
    base = stage.base("b1")
    stage.wait_node_ready("b1")
    stage.create_pod("biz1")
    stage.wait_pod_ready("biz1")
    base.control("restart")
    assert base.modules() == {}
    eventually(lambda: base.modules() == {"biz1:0.0.1": "activated"}, within=30, what="the module back")
    stage.wait_pod_ready("biz1")
