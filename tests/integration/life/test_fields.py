"""Fields of Pods besides variables and probes are honoured, or reported as ignored, on a real cluster."""

from __future__ import annotations

import pytest

from tests.everything import condition
from tests.integration.life.conftest import Life
from tests.programs import eventually, throughout

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]


def test_a_pod_that_is_active_for_too_long_fails_and_its_module_leaves(life: Life, tunnel: str) -> None:
    base = life.bases("a", tunnel=tunnel)
    obj = life.manifest("biz1.yaml")
    obj["spec"]["activeDeadlineSeconds"] = 8
    life.apply(obj)
    life.wait_ready("biz1")
    eventually(lambda: base.modules() == {}, within=30, what="the module gone")
    pod = life.get("Pod", "biz1")
    assert pod is not None
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert condition(pod, "Ready")["status"] == "False"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "DeadlineExceeded"
    eventually(lambda: life.reasons("biz1").count("DeadlineExceeded") == 1, within=10, what="an Event")
    throughout(lambda: base.orders()[2:] == [], seconds=5, what="it is not installed again")


def test_a_pod_that_requests_what_a_base_does_not_measure_is_placed(life: Life) -> None:
    base = life.bases("a")
    obj = life.manifest("biz1.yaml")
    obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m", "ephemeral-storage": "1Gi"}}
    life.apply(obj)
    life.wait_ready("biz1")
    node = life.node(base.nodes[0])
    assert node is not None
    assert node["status"]["capacity"]["cpu"] == "1k"


def test_a_debug_container_is_terminated_as_no_module(life: Life) -> None:
    if life.everything.cluster.minor < 25:
        pytest.skip(f"kubernetes 1.{life.everything.cluster.minor}: ephemeral containers came with 1.25")
    life.bases("a")
    life.pod("biz1")
    life.wait_ready("biz1")
    assert "FieldsIgnored" not in life.reasons("biz1")
    debug = {"name": "debug", "image": "busybox", "targetContainerName": "biz1"}
    life.api.patch(
        f"{life.path('Pod', 'biz1')}/ephemeralcontainers",
        {"spec": {"ephemeralContainers": [debug]}},
        "application/strategic-merge-patch+json",
    )

    def reported() -> bool:
        pod = life.get("Pod", "biz1") or {}
        statuses = pod.get("status", {}).get("ephemeralContainerStatuses", [])
        return [each["state"]["terminated"]["reason"] for each in statuses] == ["NotAModule"]

    eventually(reported, within=20, what="the status of the debug container")
    eventually(lambda: life.reasons("biz1").count("FieldsIgnored") == 1, within=10, what="an Event")
    assert condition(life.get("Pod", "biz1"), "Ready")["status"] == "True"


def test_a_version_from_a_label_can_be_changed_in_place(life: Life, tunnel: str) -> None:
    base = life.bases("a", tunnel=tunnel)
    life.apply(life.manifest("variables.yaml", name="biz1"))
    life.wait_ready("biz1")
    change = {
        "metadata": {"labels": {"module.koupleless.io/version": "0.0.2"}},
        "spec": {"containers": [{"name": "biz1", "image": "https://repo.example/biz1-0.0.2.jar"}]},
    }
    life.api.patch(life.path("Pod", "biz1"), change, "application/strategic-merge-patch+json")
    eventually(lambda: base.modules() == {"biz1:0.0.2": "activated"}, within=60, what="the next version alone")
    life.wait_ready("biz1")
