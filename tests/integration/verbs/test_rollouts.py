"""Each verb for rollouts does what it does to any Deployment."""

import pytest

from tests.everything import condition
from tests.integration.verbs.conftest import URL_1, URL_2, V1, V2, Scene, images, needs_revisions
from tests.programs import eventually, throughout

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

INSTALL_1, INSTALL_2 = ("install", V1), ("install", V2)
UNINSTALL_1, UNINSTALL_2 = ("uninstall", V1), ("uninstall", V2)


def release(scene: Scene, version: str) -> None:
    """Release a version as the example for this Kubernetes says."""
    if scene.sandbox.everything.cluster.minor < 31:
        scene.apply(scene.example(version=version))
    else:
        scene.kubectl("set", "image", "deployment/biz1", f"biz1=https://repo.example/biz1-{version}.jar")


def test_set_image_undo_and_history(scene: Scene) -> None:
    scene.apply(scene.example())
    scene.released(V1)
    release(scene, "0.0.2")
    scene.released(V2)
    scene.kubectl("rollout", "undo", "deployment/biz1")
    scene.released(V1)
    # The new version serves before the old one goes: a switch, where the base needs one, and an uninstall.
    for orders in scene.orders():
        done = [order for order in orders if order[0] != "switch"]
        assert done == [INSTALL_1, INSTALL_2, UNINSTALL_1, INSTALL_1, UNINSTALL_2]
    history = scene.kubectl("rollout", "history", "deployment/biz1").split()
    assert history[-4:] == ["2", "<none>", "3", "<none>"]
    assert URL_2 in scene.kubectl("rollout", "history", "deployment/biz1", "--revision=2")


def test_restart_changes_no_module(scene: Scene) -> None:
    needs_revisions(scene)
    scene.apply(scene.example())
    scene.released(V1)
    before = {pod["metadata"]["uid"] for pod in scene.sandbox.pods()}
    scene.kubectl("rollout", "restart", "deployment/biz1")
    scene.released(V1)
    after = {pod["metadata"]["uid"] for pod in scene.sandbox.pods()}
    assert len(after) == 2
    assert not after & before
    assert scene.orders() == [[INSTALL_1], [INSTALL_1]]


def test_restart_installs_again_where_the_template_says_so(scene: Scene) -> None:
    needs_revisions(scene)
    deployment = scene.example()
    annotations = {"module.koupleless.io/install-strategy": "force"}
    deployment["spec"]["template"]["metadata"]["annotations"] = annotations
    scene.apply(deployment)
    scene.released(V1)
    scene.kubectl("rollout", "restart", "deployment/biz1")
    scene.released(V1)
    assert scene.orders() == [[INSTALL_1, UNINSTALL_1, INSTALL_1]] * 2
    throughout(lambda: [len(orders) for orders in scene.orders()] == [3, 3], seconds=3, what="old Pods remove nothing")


def test_the_form_for_older_clusters_waits_for_a_release_by_image_alone(scene: Scene) -> None:
    """As docs/releases.md says: its Pods are kept apart by a label that the image does not change."""
    scene.apply(scene.example("before-1.31/deployment.yaml"))
    scene.released(V1)
    scene.kubectl("set", "image", "deployment/biz1", f"biz1={URL_2}")
    status = ("rollout", "status", "deployment/biz1", "--timeout=5s")
    assert "timed out waiting" in scene.kubectl(*status, fails=True)
    (waits,) = (pod for pod in scene.sandbox.pods() if "nodeName" not in pod["spec"])
    assert "anti-affinity" in condition(waits, "PodScheduled")["message"]
    scene.kubectl("rollout", "undo", "deployment/biz1")
    scene.released(V1)


def test_pause_and_resume(scene: Scene) -> None:
    scene.apply(scene.example())
    scene.released(V1)
    scene.kubectl("rollout", "pause", "deployment/biz1")
    release(scene, "0.0.2")
    throughout(lambda: images(scene) == [URL_1, URL_1], seconds=3, what="nothing while paused")
    scene.kubectl("rollout", "resume", "deployment/biz1")
    scene.released(V2)


def test_scale(scene: Scene) -> None:
    scene.apply(scene.example())
    scene.released(V1)
    scene.kubectl("scale", "deployment/biz1", "--replicas=1")
    scene.kubectl("rollout", "status", "deployment/biz1", "--timeout=60s")
    scene.kubectl("wait", "deployment/biz1", "--for=jsonpath={.status.replicas}=1", "--timeout=60s")
    scene.kubectl("scale", "deployment/biz1", "--replicas=2")
    scene.released(V1)


def test_the_image_of_a_bare_pod_brings_its_version(scene: Scene) -> None:
    pod = scene.example("biz1.yaml")
    del pod["spec"]["containers"][0]["env"]
    scene.apply(pod)
    scene.kubectl("wait", "pod/biz1", "--for=condition=Ready", "--timeout=60s")
    (base,) = (base for base in scene.bases if base.orders())
    scene.kubectl("set", "image", "pod/biz1", "biz1=https://repo.example/get?id=4711#bizVersion=0.0.2")
    eventually(lambda: base.modules() == {V2: "activated"}, within=60, what="the next version alone")
    scene.sandbox.wait_ready("biz1")
    assert base.bodies("installBiz")[-1]["bizUrl"] == "https://repo.example/get?id=4711"
