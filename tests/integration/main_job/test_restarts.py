"""Processes killed, servers away: nothing is deleted, nothing is installed twice, all converges."""

import signal
import time

import pytest

from tests.integration.main_job.conftest import Stage, condition
from tests.programs import SimulatedBase, eventually, throughout

pytestmark = pytest.mark.timeout(400)


def undisturbed(stage: Stage, uid: str, transition: str) -> bool:
    """The Node is the same, the Pod is Ready and was all the time."""
    node, ready = stage.node("b1"), condition(stage.pod("biz1"), "Ready")
    return (
        node is not None
        and node["metadata"]["uid"] == uid
        and ready.get("status") == "True"
        and ready.get("lastTransitionTime") == transition
    )


def up(stage: Stage) -> tuple[SimulatedBase, str, str]:
    base = stage.base("b1")
    node = stage.wait_node_ready("b1")
    stage.create_pod("biz1")
    pod = stage.wait_pod_ready("biz1")
    return base, node["metadata"]["uid"], condition(pod, "Ready")["lastTransitionTime"]


def test_a_control_plane_killed_with_9_and_restarted_changes_nothing(stage: Stage) -> None:
    base, uid, transition = up(stage)
    fence = stage.kube.api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/vnode.b1.dev")
    stage.control_plane.server.stop(signal.SIGKILL)
    throughout(lambda: undisturbed(stage, uid, transition), seconds=3, what="undisturbed while it is down")
    stage.control_plane.start()
    throughout(lambda: undisturbed(stage, uid, transition), seconds=40, what="undisturbed after the restart")
    assert len(base.commands("installBiz")) == 1
    assert base.commands("uninstallBiz") == []
    lease = stage.kube.api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/vnode.b1.dev")
    assert lease["spec"]["leaseTransitions"] > fence["spec"]["leaseTransitions"]
    stage.create_pod("biz2", module="biz2")
    stage.wait_pod_ready("biz2")


def test_a_pod_deleted_while_the_control_plane_is_down_still_takes_its_module_along(stage: Stage) -> None:
    base, _, _ = up(stage)
    stage.control_plane.server.stop(signal.SIGKILL)
    stage.delete_pod("biz1")
    time.sleep(2)
    assert stage.pod("biz1") is not None
    stage.control_plane.start()
    eventually(lambda: stage.pod("biz1") is None, within=30, what="the Pod gone")
    assert base.modules() == {}


def test_a_gateway_killed_with_9_and_restarted_changes_nothing(stage: Stage) -> None:
    base, uid, transition = up(stage)
    stage.gateway.server.stop(signal.SIGKILL)
    eventually(
        lambda: condition(stage.node("b1"), "TunnelAvailable").get("status") == "False",
        within=10,
        what="the Node says that the tunnel is down",
    )
    throughout(lambda: undisturbed(stage, uid, transition), seconds=30, what="undisturbed while the gateway is down")
    stage.gateway.start()
    eventually(
        lambda: condition(stage.node("b1"), "TunnelAvailable").get("status") == "True", within=10, what="tunnel up"
    )
    throughout(lambda: undisturbed(stage, uid, transition), seconds=30, what="undisturbed after the restart")
    assert len(base.commands("installBiz")) == 1


def test_an_api_server_that_is_away_at_the_start_is_waited_for(idle_stage: Stage) -> None:
    stage = idle_stage
    stage.kube.stop_apiserver(signal.SIGKILL)
    stage.control_plane.start(ready=False)
    stage.gateway.start()
    base = stage.base("b1")
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        code, text = stage.control_plane.readiness()
        assert code == 503
        assert "cluster:" in text
        time.sleep(1)
    stage.kube.start_apiserver()
    stage.wait_node_ready("b1", within=40)
    eventually(lambda: stage.control_plane.readiness()[0] == 200, within=20, what="ready")
    stage.create_pod("biz1")
    # The scheduler, too, must find the API server again first.
    stage.wait_pod_ready("biz1", within=90)
    assert base.modules() == {"biz1:0.0.1": "activated"}


def test_an_api_server_that_is_away_for_a_minute_costs_nothing(stage: Stage) -> None:
    base, uid, _ = up(stage)
    stage.kube.stop_apiserver(signal.SIGKILL)
    eventually(lambda: stage.control_plane.readiness()[0] == 503, within=30, what="not ready")
    # Real time: its leases of 40 s end meanwhile.
    time.sleep(60)
    assert stage.control_plane.server.running
    stage.kube.start_apiserver()
    eventually(lambda: stage.control_plane.readiness()[0] == 200, within=30, what="ready again")
    node = stage.wait_node_ready("b1", within=60)
    assert node["metadata"]["uid"] == uid
    stage.wait_pod_ready("biz1", within=60)
    assert len(base.commands("installBiz")) == 1
    stage.create_pod("biz2", module="biz2")
    stage.wait_pod_ready("biz2", within=90)


def test_nobody_takes_over_the_identity_of_a_live_base(stage: Stage) -> None:
    stage.base("b1")
    node = stage.wait_node_ready("b1")
    impostor = stage.base("b1", ip="127.0.0.2")
    throughout(
        lambda: (
            (found := stage.node("b1")) is not None
            and found["status"]["addresses"][0]["address"] == node["status"]["addresses"][0]["address"]
        ),
        seconds=6,
        what="the Node keeps the first address",
    )
    stage.create_pod("biz1")
    stage.wait_pod_ready("biz1")
    assert impostor.commands() == []
