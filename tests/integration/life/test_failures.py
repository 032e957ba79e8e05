"""Failures at a base, on both tunnels, are reported and retried, and delay nothing else."""

import time

import pytest

from tests.everything import Bases, ready
from tests.integration.life.conftest import UNINSTALL_TIMEOUT, Sandbox
from tests.programs import eventually, throughout

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

ACTIVE = {"biz1:0.0.1": "activated"}


def running(sandbox: Sandbox, tunnel: str, *arguments: str) -> Bases:
    """A base on which biz1 runs."""
    base = sandbox.bases("a", *arguments, tunnel=tunnel)
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1")
    return base


def test_an_install_that_fails_says_why_and_heals_by_itself(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", "--fail-install", "biz1", tunnel=tunnel)
    sandbox.pod("biz1")
    status = sandbox.wait_waiting("biz1", "InstallFailed")
    assert "module biz1:0.0.1 failed to start" in status["state"]["waiting"]["message"]
    assert status["restartCount"] == 1
    eventually(lambda: "ModuleInstallFailed" in sandbox.reasons("biz1"), within=10, what="an Event")
    base.control("heal")
    pod = sandbox.wait_ready("biz1")
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1
    eventually(lambda: "ModuleInstalled" in sandbox.reasons("biz1"), within=10, what="an Event")


def test_an_artifact_that_cannot_be_had_is_named(sandbox: Sandbox, tunnel: str) -> None:
    sandbox.bases("a", tunnel=tunnel)
    obj = sandbox.manifest("biz1.yaml")
    obj["spec"]["containers"][0]["image"] = "https://repo.invalid/biz1-0.0.1.jar"
    sandbox.apply(obj)
    status = sandbox.wait_waiting("biz1", "ArtifactUnavailable")
    assert "repo.invalid" in status["state"]["waiting"]["message"]


def test_a_module_whose_start_fails_and_stays_broken_heals(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", "--fail-install", "biz1", "--broken-stays", tunnel=tunnel)
    sandbox.pod("biz1")
    eventually(lambda: base.modules() == {"biz1:0.0.1": "broken"}, within=30, what="a broken module")
    base.control("heal")
    sandbox.wait_ready("biz1", within=60)
    assert base.modules() == ACTIVE


def test_a_jar_with_another_identity_is_reported_with_the_installed_one(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    obj = sandbox.manifest("biz1.yaml")
    obj["spec"]["containers"][0]["image"] += "#biz1:0.0.9"
    sandbox.apply(obj)
    status = sandbox.wait_waiting("biz1", "IdentityMismatch")
    assert "biz1:0.0.9" in status["state"]["waiting"]["message"]
    throughout(lambda: len(base.orders()) == 1, seconds=10, what="it is not installed again and again")


def test_a_hung_install_keeps_no_pod_from_being_deleted_and_no_other_module_waiting(
    sandbox: Sandbox, tunnel: str
) -> None:
    base = sandbox.bases("a", "--hang", "installBiz", tunnel=tunnel)
    sandbox.pod("biz1")
    eventually(base.orders, within=20, what="the install at the base")
    base.control("heal")
    sandbox.pod("biz2", module="biz2")
    sandbox.wait_ready("biz2")
    sandbox.delete("Pod", "biz1")
    sandbox.wait_gone("Pod", "biz1", within=UNINSTALL_TIMEOUT + 15)
    sandbox.delete("Pod", "biz2")
    sandbox.wait_gone("Pod", "biz2", within=20)


def test_a_deleted_pod_whose_module_stays_goes_after_the_timeout_and_the_leftover_later(
    sandbox: Sandbox, tunnel: str
) -> None:
    base = running(sandbox, tunnel, "--fail-uninstall", "biz1", "--broken-stays")
    sandbox.delete("Pod", "biz1")
    began = time.monotonic()
    throughout(lambda: sandbox.get("Pod", "biz1") is not None, seconds=UNINSTALL_TIMEOUT - 3, what="the Pod is held")
    sandbox.wait_gone("Pod", "biz1", within=30)
    assert time.monotonic() - began >= UNINSTALL_TIMEOUT - 2
    eventually(
        lambda: {"ModuleUninstallFailed", "ModuleUninstallTimeout"} <= set(sandbox.reasons("biz1")),
        within=10,
        what="Events that say so",
    )
    assert base.modules() == {"biz1:0.0.1": "broken"}
    base.control("heal")
    eventually(lambda: base.modules() == {}, within=90, what="the leftover removed")


def test_an_uninstall_that_fails_although_the_module_went_ends_the_pod(sandbox: Sandbox, tunnel: str) -> None:
    base = running(sandbox, tunnel, "--fail-uninstall", "biz1")
    sandbox.delete("Pod", "biz1")
    sandbox.wait_gone("Pod", "biz1", within=UNINSTALL_TIMEOUT - 2)
    assert base.modules() == {}


def test_an_orphan_whose_uninstall_fails_is_not_tried_again_at_once(sandbox: Sandbox, tunnel: str) -> None:
    base = running(sandbox, tunnel, "--fail-uninstall", "biz1", "--broken-stays")
    sandbox.delete("Pod", "biz1", force=True)
    uninstall = ("uninstall", "biz1:0.0.1")
    eventually(lambda: uninstall in base.orders(), within=60, what="the first uninstall")
    throughout(lambda: base.orders().count(uninstall) == 1, seconds=8, what="no second one")


def test_a_pod_deleted_by_force_takes_its_module_along_later(sandbox: Sandbox, tunnel: str) -> None:
    base = running(sandbox, tunnel)
    sandbox.delete("Pod", "biz1", force=True)
    assert sandbox.get("Pod", "biz1") is None
    eventually(lambda: base.modules() == {}, within=60, what="the leftover removed")
    throughout(lambda: len(base.orders()) == 2, seconds=10, what="one uninstall is enough")


def test_a_base_restarted_in_place_gets_its_modules_back(sandbox: Sandbox, tunnel: str) -> None:
    base = running(sandbox, tunnel)
    base.control("restart")
    assert base.modules() == {}
    eventually(lambda: base.modules() == ACTIVE, within=40, what="the module back")
    sandbox.wait_ready("biz1")
    assert base.orders() == [("install", "biz1:0.0.1")] * 2


def test_a_status_changed_by_another_client_is_corrected(sandbox: Sandbox, tunnel: str) -> None:
    base = running(sandbox, tunnel)
    before = sandbox.wait_ready("biz1")
    conditions = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
    edit = {"status": {"phase": "Unknown", "reason": "NodeLost", "conditions": conditions}}
    sandbox.api.patch(f"{sandbox.path('Pod', 'biz1')}/status", edit)
    pod = sandbox.wait_ready("biz1", within=20)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"].get("reason", "") == ""
    assert {c["type"] for c in before["status"]["conditions"]} == {c["type"] for c in pod["status"]["conditions"]}
    assert base.orders() == [("install", "biz1:0.0.1")]


def test_a_status_that_another_client_keeps_changing_is_corrected_less_and_less_often(sandbox: Sandbox) -> None:
    running(sandbox, "http")
    edit = {"status": {"conditions": [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]}}
    corrected, until = 0, time.monotonic() + 20
    while time.monotonic() < until:
        if ready(sandbox.get("Pod", "biz1")):
            corrected += 1
            sandbox.api.patch(f"{sandbox.path('Pod', 'biz1')}/status", edit)
    assert 3 <= corrected <= 8
    eventually(lambda: "ChangedByOthers" in sandbox.reasons("biz1"), within=10, what="an Event")
    sandbox.wait_ready("biz1", within=45)


def test_a_module_removed_by_another_client_is_installed_again(sandbox: Sandbox) -> None:
    base = running(sandbox, "http")
    base.command("uninstallBiz", {"bizName": "biz1", "bizVersion": "0.0.1"})
    assert base.modules() == {}
    eventually(
        lambda: not ready(sandbox.get("Pod", "biz1")) or base.modules() == ACTIVE, within=40, what="it was noticed"
    )
    eventually(lambda: base.modules() == ACTIVE, within=40, what="the module back")
    sandbox.wait_ready("biz1")
