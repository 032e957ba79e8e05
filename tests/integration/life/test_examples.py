"""The manifests of examples/, unchanged, work in all forms that users of the original have."""

from collections.abc import Iterator

import pytest

from tests.everything import EXAMPLES, Bases, Everything, manifest, ready
from tests.integration.life.conftest import Sandbox, needs_surge, wait_available
from tests.programs import eventually

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

ACTIVE = {"biz1:0.0.1": "activated"}


@pytest.fixture
def default(everything: Everything) -> Iterator[Sandbox]:
    """Namespace and cluster of bases that the examples name."""
    own = Sandbox(everything, "default", "default")
    try:
        yield own
    finally:
        bases = own.end()
        # The next test's bases have the same names, and its Pods may go to any base of this cluster of bases. A Node
        # that was deleted comes back until its base counts as gone.
        eventually(lambda: not everything.control_plane.bases() & bases, within=60, what="no base is known any more")


def two_bases(sandbox: Sandbox) -> tuple[Bases, Bases]:
    return sandbox.bases("a"), sandbox.bases("b", tunnel="mqtt")


def test_all_examples_are_tried_here_or_in_verbs() -> None:
    by_verbs = {"scatter.yaml", "stack.yaml"}
    assert {path.name for path in EXAMPLES.glob("*.yaml")} - by_verbs == {
        "biz1.yaml",
        "biz1-biz2.yaml",
        "daemonset.yaml",
        "deployment.yaml",
        "peer-deployment.yaml",
        "variables.yaml",
    }


def test_a_pod(default: Sandbox) -> None:
    base = default.bases("a")
    default.apply(manifest("biz1.yaml"))
    default.wait_ready("biz1")
    assert base.modules() == ACTIVE
    default.delete("Pod", "biz1")
    default.wait_gone("Pod", "biz1")
    assert base.modules() == {}


def test_a_pod_of_two_modules(default: Sandbox, tunnel: str) -> None:
    base = default.bases("a", tunnel=tunnel)
    default.apply(manifest("biz1-biz2.yaml"))
    pod = default.wait_ready("biz1-biz2")
    assert [status["ready"] for status in pod["status"]["containerStatuses"]] == [True, True]
    assert base.modules() == {"biz1:0.0.1": "activated", "biz2:0.0.1": "activated"}
    assert sorted(base.orders()) == [("install", "biz1:0.0.1"), ("install", "biz2:0.0.1")]
    default.delete("Pod", "biz1-biz2")
    default.wait_gone("Pod", "biz1-biz2")
    assert base.modules() == {}


def test_a_pod_with_references(default: Sandbox) -> None:
    base = default.bases("a")
    default.apply(manifest("variables.yaml", name="biz1-variables"))
    default.wait_ready("biz1-variables")
    assert base.modules() == ACTIVE
    (body,) = base.bodies("installBiz")
    assert body["args"] == ["--instance=biz1-variables"]
    assert body["envs"]["GREETING"] == "biz1-variables runs biz1 0.0.1 at 127.0.0.1"


def test_a_deployment_has_one_copy_on_each_of_two_bases(default: Sandbox) -> None:
    one, other = two_bases(default)
    default.apply(manifest("deployment.yaml"))
    wait_available(default, "Deployment", "biz1", 2)
    assert one.modules() == other.modules() == ACTIVE
    default.delete("Deployment", "biz1")
    eventually(lambda: not default.pods(leaving=True), within=60, what="all Pods gone")
    assert one.modules() == other.modules() == {}


def test_a_daemon_set_reaches_a_base_that_comes_later(default: Sandbox) -> None:
    needs_surge(default)
    one = default.bases("a")
    everywhere = manifest("daemonset.yaml")
    if default.everything.cluster.minor < 22:
        # There is no maxSurge yet.
        everywhere["spec"]["updateStrategy"] = {"type": "RollingUpdate"}
    default.apply(everywhere)
    eventually(lambda: one.modules() == ACTIVE, within=30, what="the module on the first base")
    other = default.bases("b", tunnel="mqtt")
    eventually(lambda: other.modules() == ACTIVE, within=30, what="the module on the second base")
    eventually(lambda: [ready(pod) for pod in default.pods()] == [True, True], within=30, what="both Pods Ready")


def test_a_peer_deployment(default: Sandbox) -> None:
    base = default.bases("a")
    default.apply(manifest("peer-deployment.yaml"))
    wait_available(default, "Deployment", "biz1-peer", 1)
    assert base.modules() == ACTIVE
