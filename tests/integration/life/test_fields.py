"""Fields of Pods besides variables and probes are honoured, or reported as ignored, on a real cluster."""

import pytest

from tests.everything import condition
from tests.integration.life.conftest import Sandbox
from tests.programs import eventually, throughout

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]


def test_a_pod_that_is_active_for_too_long_fails_and_its_module_leaves(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    obj = sandbox.manifest("biz1.yaml")
    obj["spec"]["activeDeadlineSeconds"] = 8
    sandbox.apply(obj)
    sandbox.wait_ready("biz1")
    eventually(lambda: base.modules() == {}, within=30, what="the module gone")
    pod = sandbox.get("Pod", "biz1")
    assert pod is not None
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert condition(pod, "Ready")["status"] == "False"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "DeadlineExceeded"
    eventually(lambda: sandbox.reasons("biz1").count("DeadlineExceeded") == 1, within=10, what="an Event")
    throughout(lambda: base.orders()[2:] == [], seconds=5, what="it is not installed again")


def test_a_pod_that_requests_what_a_base_does_not_measure_is_placed(sandbox: Sandbox) -> None:
    base = sandbox.bases("a")
    obj = sandbox.manifest("biz1.yaml")
    obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m", "ephemeral-storage": "1Gi"}}
    sandbox.apply(obj)
    sandbox.wait_ready("biz1")
    node = sandbox.node(base.nodes[0])
    assert node is not None
    assert node["status"]["capacity"]["cpu"] == "2"


def test_a_debug_container_is_terminated_as_no_module(sandbox: Sandbox) -> None:
    if sandbox.everything.cluster.minor < 25:
        pytest.skip(f"kubernetes 1.{sandbox.everything.cluster.minor}: ephemeral containers came with 1.25")
    sandbox.bases("a")
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1")
    assert "FieldsIgnored" not in sandbox.reasons("biz1")
    debug = {"name": "debug", "image": "busybox", "targetContainerName": "biz1"}
    sandbox.api.patch(
        f"{sandbox.path('Pod', 'biz1')}/ephemeralcontainers",
        {"spec": {"ephemeralContainers": [debug]}},
        "application/strategic-merge-patch+json",
    )

    def reported() -> bool:
        pod = sandbox.get("Pod", "biz1") or {}
        statuses = pod.get("status", {}).get("ephemeralContainerStatuses", [])
        return [each["state"]["terminated"]["reason"] for each in statuses] == ["NotAModule"]

    eventually(reported, within=20, what="the status of the debug container")
    eventually(lambda: sandbox.reasons("biz1").count("FieldsIgnored") == 1, within=10, what="an Event")
    assert condition(sandbox.get("Pod", "biz1"), "Ready")["status"] == "True"


def test_a_version_from_a_label_can_be_changed_in_place(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    sandbox.apply(sandbox.manifest("variables.yaml", name="biz1"))
    sandbox.wait_ready("biz1")
    change = {
        "metadata": {"labels": {"module.koupleless.io/version": "0.0.2"}},
        "spec": {"containers": [{"name": "biz1", "image": "https://repo.example/biz1-0.0.2.jar"}]},
    }
    sandbox.api.patch(sandbox.path("Pod", "biz1"), change, "application/strategic-merge-patch+json")
    eventually(lambda: base.modules() == {"biz1:0.0.2": "activated"}, within=60, what="the next version alone")
    sandbox.wait_ready("biz1")
