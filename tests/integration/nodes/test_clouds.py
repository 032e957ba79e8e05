"""The controller that deletes Nodes without a machine leaves VNodes alone: what it stands for is in docs/clouds.md."""

import signal
from collections.abc import Iterator

import pytest

from tests.integration.main_job.conftest import NODES, Stage
from tests.programs import ControlPlane, eventually, throughout
from tests.servers.bundles import CLOUD
from tests.servers.fixtures import programs_of
from tests.servers.process import Server

pytestmark = pytest.mark.timeout(180)

MACHINE, VNODE = "machine", "vnode.b1.dev"
NOT_READY = {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}]}


@pytest.fixture
def cloud(idle_stage: Stage, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The controller, not started."""
    kubeconfig = idle_stage.kube.kubeconfig()
    command = [str(programs_of(CLOUD) / CLOUD.name), f"--kubeconfig={kubeconfig}", f"--cloud={request.param}"]
    server = Server(CLOUD.name, command, idle_stage.programs.folder / "cloud.log")
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("cloud", "provider_id", "stays"),
    [("", "true", True), ("azure", "false", True), ("", "false", False)],
    indirect=["cloud"],
    ids=["an ID of ours", "the label of Azure", "looked for by its name"],
)
def test_a_vnode_that_is_not_ready_is_kept_where_a_machine_is_deleted(
    idle_stage: Stage, cloud: Server, provider_id: str, stays: bool
) -> None:
    stage = idle_stage
    stage.control_plane = ControlPlane(
        stage.programs,
        **stage.kube.environ(),
        GRPC_PORT=str(stage.control_plane.grpc),
        VNODE_PROVIDER_ID=provider_id,
    ).start()
    stage.gateway.start()
    stage.base("b1")
    before = stage.wait_node_ready("b1")
    cloud.start()
    throughout(lambda: stage.node_ready("b1") == "True", seconds=2, what="a Ready VNode")
    # All replicas are away at once: the node controller of Kubernetes finds the Lease outdated.
    stage.control_plane.server.stop(signal.SIGKILL)
    stage.kube.api.patch(f"{NODES}/{VNODE}/status", {"status": NOT_READY}, "application/strategic-merge-patch+json")
    stage.kube.api.create(NODES, {"metadata": {"name": MACHINE}, "status": NOT_READY})
    eventually(lambda: stage.find(NODES, MACHINE) is None, within=20, what="the machine's Node gone")
    if not stays:
        eventually(lambda: stage.find(NODES, VNODE) is None, within=20, what="the VNode gone")
        return
    throughout(lambda: stage.find(NODES, VNODE) is not None, seconds=5, what="the VNode")
    stage.control_plane.start()
    after = stage.wait_node_ready("b1")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert before["metadata"]["labels"].items() <= after["metadata"]["labels"].items()
    assert after["status"]["addresses"] == before["status"]["addresses"]
