"""Modules run in namespaces that the Pod security standard "restricted" governs."""

import pytest
import yaml

from tests.everything import EXAMPLES
from tests.integration.verbs.conftest import V1, Scene
from tests.programs import eventually

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]


@pytest.fixture
def restricted(scene: Scene) -> Scene:
    """The scene, in a namespace that refuses what the standard does not allow, and warns of it in workloads."""
    minor = scene.sandbox.everything.cluster.minor
    if minor < 25:
        pytest.skip(f"kubernetes 1.{minor}: Pod security admission came with 1.25")
    modes = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    scene.kubectl("label", "namespace", scene.sandbox.name, *modes)
    return scene


def test_the_namespace_refuses_a_pod_that_says_nothing(restricted: Scene) -> None:
    pod = restricted.example("biz1.yaml")
    del pod["spec"]["securityContext"]
    said = restricted.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(pod), fails=True)
    assert 'violates PodSecurity "restricted:latest"' in said


def test_the_examples_are_admitted_without_a_warning(restricted: Scene) -> None:
    # Templates are no manifests, and this cluster has no Rollouts: their own tests apply them in such a namespace.
    others = {EXAMPLES / "helm", EXAMPLES / "argo-rollouts"}
    paths = [path for path in EXAMPLES.rglob("*.yaml") if not others & set(path.parents)]
    found = [yaml.safe_load(path.read_text()) for path in paths]
    examples = [obj for obj in found if "metadata" in obj]
    assert len(examples) > 6
    for obj in examples:
        obj["metadata"]["namespace"] = restricted.sandbox.name
    said = restricted.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(examples))
    assert said.count("created (server dry run)\n") == len(examples)
    assert "Warning" not in said


def test_mctl_installs_there(restricted: Scene) -> None:
    sandbox = restricted.sandbox
    mctl = sandbox.everything.control_plane.mctl()
    url = "https://repo.example/biz1-0.0.1.jar"
    base = restricted.bases[0]
    mctl("install", "biz1", "--version", "0.0.1", "--url", url, "--base", base.identities[0], "-n", sandbox.name)
    eventually(lambda: base.modules() == {V1: "activated"}, within=30, what="the module")
    (pod,) = sandbox.pods()
    sandbox.wait_ready(pod["metadata"]["name"])
    assert "FieldsIgnored" not in sandbox.reasons()
    meta = pod["metadata"]
    assert meta["labels"]["app.kubernetes.io/managed-by"] == "module-controller"
    assert meta["annotations"]["module.koupleless.io/requested-by"]
    assert {entry["manager"] for entry in meta["managedFields"]} == {"koupleless-module-controller"}
