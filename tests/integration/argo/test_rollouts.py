"""The examples for Argo Rollouts, released by its controller and steered by its plugin of kubectl."""

import pytest

from tests.everything import container, pod_spec
from tests.integration.argo.conftest import EACH, GROUPS, Releasing
from tests.integration.rollouts.probe import handover
from tests.programs import eventually
from tests.servers.kubeapi import Json
from tests.watching import Watching

pytestmark = [pytest.mark.timeout(300), pytest.mark.mosquitto]

ALL = EACH * len(GROUPS)
V1, V2 = "biz1:0.0.1", "biz1:0.0.2"
INSTALL_1, INSTALL_2 = ("install", V1), ("install", V2)
UNINSTALL_1, UNINSTALL_2 = ("uninstall", V1), ("uninstall", V2)


def begin(releasing: Releasing, **canary: Json) -> None:
    """Have the first version everywhere; canary is added to the strategy of the example."""
    (rollout,) = releasing.example("canary.yaml")
    rollout["spec"]["strategy"]["canary"] |= canary
    releasing.apply([rollout])
    releasing.wait("Healthy")
    releasing.wait_versions(v1=ALL)


def test_a_canary_goes_step_by_step_and_no_base_is_without_the_module(releasing: Releasing) -> None:
    marks = {f"{kind}Metadata": {"labels": {"role": kind}} for kind in ("canary", "stable")}
    with Watching(releasing.sandbox.api, releasing.sandbox.path("Pod")) as pods:
        begin(releasing, **marks)
        releasing.release("0.0.2")
        releasing.wait("Paused", 1)
        releasing.stays(v1=3, v2=1)
        releasing.argo("promote", "biz1")
        releasing.wait("Paused", 3)
        releasing.stays(v1=2, v2=2)
        # Without waiting for the rest of the minute.
        releasing.argo("promote", "biz1")
        releasing.wait("Healthy")
        releasing.wait_versions(v2=ALL)
    assert "Healthy" in releasing.argo("status", "biz1", "--timeout", "30s")
    assert releasing.gaps() == []
    assert pods.breaks == 0
    result = handover(pods.changes)
    assert result.complaints == []
    assert result.supersessions == ALL
    # The labels of the strategy came and went, and changed no module.
    assert {pod["metadata"]["labels"]["role"] for pod in releasing.sandbox.pods()} == {"stable"}
    assert releasing.orders() == [[INSTALL_1, INSTALL_2, UNINSTALL_1]] * ALL


def test_abort_brings_the_old_version_back_and_a_retry_the_new_one(releasing: Releasing) -> None:
    begin(releasing)
    releasing.release("0.0.2")
    releasing.wait("Paused", 1)
    releasing.wait_versions(v1=3, v2=1)
    releasing.argo("abort", "biz1")
    releasing.wait("Degraded")
    releasing.stays(v1=ALL)
    again = [INSTALL_1, INSTALL_2, UNINSTALL_1, INSTALL_1, UNINSTALL_2]
    assert sorted(releasing.orders(), key=len) == [[INSTALL_1]] * 3 + [again]
    releasing.argo("retry", "rollout", "biz1")
    releasing.wait("Paused", 1)
    releasing.wait_versions(v1=3, v2=1)
    releasing.argo("promote", "biz1", "--full")
    releasing.wait("Healthy")
    releasing.wait_versions(v2=ALL)
    releasing.argo("undo", "biz1")
    releasing.argo("promote", "biz1", "--full")
    releasing.wait("Healthy")
    releasing.wait_versions(v1=ALL)
    assert releasing.gaps() == []


def test_a_version_that_cannot_be_installed_is_aborted_by_the_deadline(releasing: Releasing) -> None:
    begin(releasing)
    limits = '{"spec":{"progressDeadlineSeconds":8,"progressDeadlineAbort":true}}'
    releasing.kubectl("patch", "rollout", "biz1", "--type=merge", "-p", limits)
    for group in releasing.bases:
        group.control("fail?module=biz1:0.0.2")
    releasing.release("0.0.2")
    eventually(lambda: "InstallFailed" in reasons(releasing), within=30, what="a Pod whose module is not installed")
    releasing.wait("Degraded")
    assert releasing.status()["abort"] is True
    eventually(lambda: len(releasing.sandbox.pods(leaving=True)) == ALL, within=30, what="no Pod of the new version")
    assert releasing.versions() == {"0.0.1": ALL}
    orders = releasing.orders()
    releasing.release("0.0.1")
    releasing.wait("Healthy")
    assert releasing.orders() == orders
    assert releasing.gaps() == []


def test_bases_that_restart_during_a_release_get_the_version_of_their_pod(releasing: Releasing) -> None:
    begin(releasing)
    releasing.release("0.0.2")
    releasing.wait("Paused", 1)
    releasing.stays(v1=3, v2=1)
    before = [group.states() for group in releasing.bases]
    for group in releasing.bases:
        group.control("restart")
    eventually(lambda: sum(releasing.versions().values()) < ALL, within=10, what="bases without modules")
    releasing.stays(v1=3, v2=1)
    assert [group.states() for group in releasing.bases] == before


def test_restart_takes_the_module_from_one_base_after_the_other(releasing: Releasing) -> None:
    """Other than kubectl rollout restart of a Deployment: Argo Rollouts removes a Pod before it makes the next one."""
    begin(releasing)
    before = uids(releasing)
    releasing.argo("restart", "biz1")
    eventually(lambda: not before & uids(releasing), within=90, what="new Pods alone")
    releasing.wait("Healthy")
    releasing.wait_versions(v1=ALL)
    assert releasing.orders() == [[INSTALL_1, UNINSTALL_1, INSTALL_1]] * ALL
    assert len(releasing.gaps()) >= ALL


def test_two_versions_on_one_base_can_not_be_blue_and_green(releasing: Releasing) -> None:
    """As docs/rollouts.md warns: with as many replicas as bases, the old Pods give way before anybody promotes."""
    service, rollout = releasing.example("blue-green.yaml")
    rollout["spec"]["replicas"] = ALL
    rollout["spec"]["strategy"]["blueGreen"]["scaleDownDelaySeconds"] = 1
    (rule,) = pod_spec(rollout)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    rule["matchLabelKeys"] = ["rollouts-pod-template-hash"]
    releasing.apply([service, rollout])
    releasing.wait("Healthy")
    before = selected(releasing)
    releasing.release("0.0.2")
    releasing.wait("Paused")
    assert selected(releasing) == before
    old = [pod for pod in releasing.sandbox.pods() if pod["metadata"]["labels"]["rollouts-pod-template-hash"] == before]
    assert [container(pod, "waiting").get("reason") for pod in old] == ["Superseded"] * ALL
    releasing.argo("promote", "biz1")
    releasing.wait("Healthy")
    releasing.wait_versions(v2=ALL)
    assert releasing.gaps() == []


def test_blue_and_green_are_on_bases_of_their_own(releasing: Releasing) -> None:
    service, rollout = releasing.example("blue-green.yaml")
    rollout["spec"]["strategy"]["blueGreen"]["scaleDownDelaySeconds"] = 3
    releasing.apply([service, rollout])
    releasing.wait("Healthy")
    releasing.wait_versions(v1=2)
    before = selected(releasing)
    releasing.release("0.0.2")
    releasing.wait("Paused")
    releasing.stays(v1=2, v2=2)
    assert selected(releasing) == before
    # As many Pods are Ready as both versions have: nothing was superseded.
    assert "Superseded" not in reasons(releasing)
    releasing.argo("promote", "biz1")
    releasing.wait("Healthy")
    assert selected(releasing) != before
    releasing.wait_versions(v2=2)
    assert sorted(releasing.orders()) == [[INSTALL_1, UNINSTALL_1]] * 2 + [[INSTALL_2]] * 2


def selected(releasing: Releasing) -> str:
    """The revision whose Pods the Service selects."""
    return releasing.kubectl("get", "service", "biz1", "-o", "jsonpath={.spec.selector.rollouts-pod-template-hash}")


def reasons(releasing: Releasing) -> set[str]:
    return {container(pod, "waiting").get("reason", "") for pod in releasing.sandbox.pods()}


def uids(releasing: Releasing) -> set[str]:
    return {pod["metadata"]["uid"] for pod in releasing.sandbox.pods(leaving=True)}
