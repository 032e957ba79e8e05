"""Modules are updated, rolled back, released again, shared and installed in groups without harm to other Pods."""

from typing import Any

import pytest

from tests.everything import condition, pod_spec, ready
from tests.integration.life.conftest import Sandbox, wait_available
from tests.programs import eventually, throughout
from tests.servers.kubeapi import Json

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

STRATEGY = "module.koupleless.io/install-strategy"
GATE = "example.com/traffic"

V1, V2 = "biz1:0.0.1", "biz1:0.0.2"
INSTALL_1, INSTALL_2, SWITCH_1, SWITCH_2 = ("install", V1), ("install", V2), ("switch", V1), ("switch", V2)
UNINSTALL_1, UNINSTALL_2 = ("uninstall", V1), ("uninstall", V2)


def anywhere(sandbox: Sandbox, annotations: dict[str, str] | None = None, *, version: str = "0.0.1") -> Json:
    """The example Deployment without anti-affinity: an old and a new Pod of one version may meet on a base."""
    obj = sandbox.manifest("deployment.yaml", version=version)
    obj["spec"]["replicas"] = 1
    del pod_spec(obj)["affinity"]["podAntiAffinity"]
    obj["spec"]["template"]["metadata"]["annotations"] = annotations or {}
    return obj


def change_image(sandbox: Sandbox, pod: str, url: str) -> None:
    containers = [{"name": "biz1", "image": url}]
    sandbox.api.patch(sandbox.path("Pod", pod), {"spec": {"containers": containers}})


def test_a_deployment_is_updated_rolled_back_and_scaled(sandbox: Sandbox) -> None:
    one, other = sandbox.bases("a"), sandbox.bases("b", "--multi-version", "both", tunnel="mqtt")
    sandbox.apply(sandbox.manifest("deployment.yaml"))
    wait_available(sandbox, "Deployment", "biz1", 2)
    sandbox.apply(sandbox.manifest("deployment.yaml", version="0.0.2"))
    wait_available(sandbox, "Deployment", "biz1", 2)
    eventually(lambda: one.modules() == other.modules() == {V2: "activated"}, within=30, what="the new version alone")
    # The new version serves before the old one goes.
    assert one.orders() == [INSTALL_1, INSTALL_2, SWITCH_2, UNINSTALL_1]
    assert other.orders() == [INSTALL_1, INSTALL_2, UNINSTALL_1]
    sandbox.apply(sandbox.manifest("deployment.yaml"))
    wait_available(sandbox, "Deployment", "biz1", 2)
    eventually(lambda: one.modules() == other.modules() == {V1: "activated"}, within=30, what="the old version again")
    assert one.orders()[4:] == [INSTALL_1, SWITCH_1, UNINSTALL_2]
    assert other.orders()[3:] == [INSTALL_1, UNINSTALL_2]
    sandbox.scale("Deployment", "biz1", 1)
    wait_available(sandbox, "Deployment", "biz1", 1)
    eventually(lambda: len(one.modules()) + len(other.modules()) == 1, within=30, what="the module on one base")
    sandbox.scale("Deployment", "biz1", 2)
    wait_available(sandbox, "Deployment", "biz1", 2)
    assert one.modules() == other.modules() == {V1: "activated"}


def test_the_same_version_is_released_again_by_force(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    sandbox.apply(anywhere(sandbox, {STRATEGY: "force"}))
    wait_available(sandbox, "Deployment", "biz1", 1)
    sandbox.apply(anywhere(sandbox, {STRATEGY: "force", "example.com/release": "2"}))
    wait_available(sandbox, "Deployment", "biz1", 1)
    assert base.modules() == {V1: "activated"}
    assert base.orders() == [INSTALL_1, UNINSTALL_1, INSTALL_1]
    throughout(lambda: len(base.orders()) == 3, seconds=5, what="the old Pod removes no module")


def test_without_force_a_new_pod_of_the_same_version_takes_the_module_over(sandbox: Sandbox) -> None:
    base = sandbox.bases("a")
    sandbox.apply(anywhere(sandbox))
    wait_available(sandbox, "Deployment", "biz1", 1)
    (before,) = sandbox.pods()
    sandbox.apply(anywhere(sandbox, {"example.com/release": "2"}))
    wait_available(sandbox, "Deployment", "biz1", 1)
    (after,) = sandbox.pods()
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert base.orders() == [INSTALL_1]
    assert base.modules() == {V1: "activated"}


def test_two_pods_share_a_module_until_the_last_is_gone(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    for name in ("one", "other"):
        sandbox.pod(name)
        sandbox.wait_ready(name)
    sandbox.delete("Pod", "one")
    sandbox.wait_gone("Pod", "one")
    throughout(lambda: ready(sandbox.get("Pod", "other")), seconds=5, what="the other Pod keeps its module")
    assert base.orders() == [INSTALL_1]
    sandbox.delete("Pod", "other")
    sandbox.wait_gone("Pod", "other")
    assert base.orders() == [INSTALL_1, UNINSTALL_1]
    assert base.modules() == {}


def test_an_image_changed_in_place_is_installed_in_place_of_the_old_one(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1")
    change_image(sandbox, "biz1", "https://repo.example/corrected/biz1-0.0.1.jar")
    eventually(
        lambda: (
            [body.get("bizUrl") for body in base.bodies("installBiz")][1:]
            == ["https://repo.example/corrected/biz1-0.0.1.jar"]
        ),
        within=30,
        what="the corrected jar at the base",
    )
    pod = sandbox.wait_ready("biz1")
    assert base.orders() == [INSTALL_1, UNINSTALL_1, INSTALL_1]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["image"] == "https://repo.example/corrected/biz1-0.0.1.jar"
    # A refused install is tried again, and a corrected jar is used at once.
    change_image(sandbox, "biz1", "https://repo.invalid/biz1-0.0.1.jar")
    sandbox.wait_waiting("biz1", "ArtifactUnavailable")
    change_image(sandbox, "biz1", "https://repo.example/biz1-0.0.1.jar")
    sandbox.wait_ready("biz1", within=20)
    sandbox.delete("Pod", "biz1")
    sandbox.wait_gone("Pod", "biz1")
    assert base.modules() == {}


def test_readiness_gates_count_and_conditions_of_others_stay(sandbox: Sandbox) -> None:
    sandbox.bases("a")
    obj = sandbox.manifest("biz1.yaml")
    obj["spec"]["readinessGates"] = [{"conditionType": GATE}]
    sandbox.apply(obj)

    def reason() -> str:
        return str(condition(sandbox.get("Pod", "biz1"), "Ready").get("reason"))

    eventually(lambda: reason() == "ReadinessGatesNotReady", within=30, what="waiting for the gate")
    pod = sandbox.get("Pod", "biz1")
    assert condition(pod, "ContainersReady")["status"] == "True"
    sandbox.api.patch(
        f"{sandbox.path('Pod', 'biz1')}/status", {"status": {"conditions": [{"type": GATE, "status": "True"}]}}
    )
    pod = sandbox.wait_ready("biz1")
    assert condition(pod, GATE)["status"] == "True"
    assert condition(pod, "PodScheduled")["status"] == "True"
    assert all(condition(pod, kind).get("lastTransitionTime") for kind in ("Ready", "ContainersReady", "Initialized"))
    assert pod["status"]["podIP"] == pod["status"]["hostIP"] == "127.0.0.1"
    assert pod["status"]["startTime"]


def test_a_deployment_that_waits_for_ready_pods_to_stay_ready_continues(sandbox: Sandbox) -> None:
    base = sandbox.bases("a", "--multi-version", "both")
    slow = anywhere(sandbox)
    slow["spec"]["minReadySeconds"] = 3
    sandbox.apply(slow)
    wait_available(sandbox, "Deployment", "biz1", 1)
    slow = anywhere(sandbox, version="0.0.2")
    slow["spec"]["minReadySeconds"] = 3
    sandbox.apply(slow)
    wait_available(sandbox, "Deployment", "biz1", 1)
    eventually(lambda: base.modules() == {V2: "activated"}, within=20, what="the new version alone")


def test_a_stalled_rollout_is_reported_and_continues_when_the_module_heals(sandbox: Sandbox) -> None:
    base = sandbox.bases("a", "--fail-install", "biz1")
    obj = anywhere(sandbox)
    obj["spec"]["progressDeadlineSeconds"] = 5
    sandbox.apply(obj)

    def progressing() -> Json:
        return condition(sandbox.get("Deployment", "biz1"), "Progressing")

    eventually(
        lambda: progressing().get("reason") == "ProgressDeadlineExceeded", within=40, what="the deadline reported"
    )
    (pod,) = sandbox.pods()
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1
    base.control("heal")
    wait_available(sandbox, "Deployment", "biz1", 1)


def test_all_settings_of_a_container_reach_the_base(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    obj = sandbox.manifest("biz1.yaml")
    obj["metadata"]["annotations"] = {STRATEGY: "installOnly"}
    (container,) = obj["spec"]["containers"]
    container["image"] = "https://repo.example/download?artifact=biz1&signature=x"
    container["args"] = ["--server.port=8081"]
    container["env"].append({"name": "sofa.ark.biz.main.class", "value": "com.acme.Main"})
    sandbox.apply(obj)
    sandbox.wait_ready("biz1")
    assert base.bodies("installBiz") == [
        {
            "bizName": "biz1",
            "bizVersion": "0.0.1",
            "bizUrl": "https://repo.example/download?artifact=biz1&signature=x",
            "args": ["--server.port=8081"],
            "envs": {"sofa.ark.biz.main.class": "com.acme.Main"},
            "installStrategy": "installOnly",
        }
    ]


@pytest.mark.parametrize(("options", "batches"), [((), 1), (("--runtime", "1.3.3"), 0)])
def test_a_group_of_modules_is_one_batch_where_the_base_offers_it(
    sandbox: Sandbox, options: tuple[str, ...], batches: int
) -> None:
    base = sandbox.bases("a", *options)
    sandbox.apply(sandbox.manifest("biz1-biz2.yaml"))
    sandbox.wait_ready("biz1-biz2")
    assert len(base.bodies("batchInstallBiz")) == batches
    assert sorted(base.orders()) == [INSTALL_1, ("install", "biz2:0.0.1")]
    assert len(base.modules()) == 2


def test_one_bad_module_of_a_group_delays_no_other(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    obj = sandbox.manifest("biz1-biz2.yaml")
    obj["spec"]["containers"][1]["image"] = "https://repo.invalid/biz2-0.0.1.jar"
    sandbox.apply(obj)

    def states() -> dict[str, Any]:
        pod = sandbox.get("Pod", "biz1-biz2") or {}
        return {status["name"]: status for status in pod.get("status", {}).get("containerStatuses", [])}

    eventually(
        lambda: states().get("biz2", {}).get("state", {}).get("waiting", {}).get("reason") == "ArtifactUnavailable",
        within=30,
        what="the failure of the bad module",
    )
    eventually(lambda: states()["biz1"]["ready"], within=20, what="the other runs")
    assert not ready(sandbox.get("Pod", "biz1-biz2"))
    assert base.modules() == {V1: "activated"}


def test_a_version_that_cannot_stand_another_beside_it_comes_after_it(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    sandbox.apply(anywhere(sandbox, {STRATEGY: "uninstallThenInstall"}))
    wait_available(sandbox, "Deployment", "biz1", 1)
    sandbox.apply(anywhere(sandbox, {STRATEGY: "uninstallThenInstall"}, version="0.0.2"))
    wait_available(sandbox, "Deployment", "biz1", 1)
    assert base.modules() == {V2: "activated"}
    assert base.orders() == [INSTALL_1, UNINSTALL_1, INSTALL_2]


def test_over_mqtt_a_version_that_starts_out_of_service_is_installed_again_without_the_other(sandbox: Sandbox) -> None:
    """Bases with default settings keep the old version active, and have no switch command over MQTT."""
    base = sandbox.bases("a", tunnel="mqtt")
    sandbox.apply(anywhere(sandbox))
    wait_available(sandbox, "Deployment", "biz1", 1)
    sandbox.apply(anywhere(sandbox, version="0.0.2"))
    wait_available(sandbox, "Deployment", "biz1", 1)
    eventually(lambda: base.modules() == {V2: "activated"}, within=30, what="the new version alone")
    assert base.orders() == [INSTALL_1, INSTALL_2, UNINSTALL_2, UNINSTALL_1, INSTALL_2]


def test_a_command_that_did_not_reach_its_base_is_sent_again_long_before_its_deadline(sandbox: Sandbox) -> None:
    """The base loses its connection to the broker unnoticed, and the broker keeps no messages for it."""
    base = sandbox.bases("a", tunnel="mqtt")
    base.control("cut?seconds=6")
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1", within=75)
    assert base.orders() == [INSTALL_1]
    assert base.modules() == {V1: "activated"}


def test_a_command_that_its_base_lost_is_sent_again(sandbox: Sandbox) -> None:
    base = sandbox.bases("a", "--hang", "installBiz", tunnel="mqtt")
    sandbox.pod("biz1")
    eventually(base.orders, within=20, what="the install that the base does nothing about")
    base.control("heal")
    sandbox.wait_ready("biz1", within=75)
    assert base.orders() == [INSTALL_1] * 2


def test_a_baseline_and_the_pod_that_comes_after_it_meet(sandbox: Sandbox) -> None:
    sandbox.apply(anywhere(sandbox))
    base = sandbox.bases("a", "--install-time", "2", tunnel="mqtt")
    wait_available(sandbox, "Deployment", "biz1", 1)
    assert base.orders() == [INSTALL_1]
    assert len(base.bodies("batchInstallBiz")) == 1
    sandbox.delete("Deployment", "biz1")
    eventually(lambda: base.modules() == {}, within=30, what="the module gone with its Pod")
