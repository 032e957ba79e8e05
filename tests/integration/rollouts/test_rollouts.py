"""Rolling updates and rollbacks of a Deployment with a copy on each of 20 bases leave no base without the module."""

import time
from collections.abc import Iterator

import pytest

from tests.corner import Sandbox, isolated, stage
from tests.everything import Bases, pod_spec
from tests.integration.rollouts.probe import gaps, handover
from tests.programs import eventually
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import Json
from tests.watching import Watching

pytestmark = [pytest.mark.timeout(600), pytest.mark.mosquitto]

GROUPS = (
    # (tunnel, what becomes of a second version of a module)
    ("http", "both"),
    ("http", "default"),
    ("mqtt", "both"),
    ("mqtt", "switch"),
)
EACH = 5
ALL = EACH * len(GROUPS)


@pytest.fixture(scope="module")
def sandbox(kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with (
        stage(kube_cluster, tmp_path_factory.mktemp("rollouts")) as everything,
        isolated(everything, "rollouts") as own,
    ):
        yield own


@pytest.fixture(scope="module")
def bases(sandbox: Sandbox) -> list[Bases]:
    return [
        sandbox.bases(f"{tunnel}-{mode}", "--multi-version", mode, "--install-time", "0.3", tunnel=tunnel, count=EACH)
        for tunnel, mode in GROUPS
    ]


def test_update_and_rollback_never_leave_a_base_without_the_module(sandbox: Sandbox, bases: list[Bases]) -> None:
    with Watching(sandbox.api, sandbox.path("Pod")) as pods:
        for version in ("0.0.1", "0.0.2", "0.0.3", "0.0.2"):
            sandbox.apply(everywhere(sandbox, version))
            complete(sandbox)
            assert inside(bases) == [{f"biz1:{version}": "activated"}] * ALL
    until = time.monotonic()
    assert pods.breaks == 0
    found = [gap for group in bases for gap in gaps(group.history(), "biz1", until=until)]
    assert found == []
    result = handover(pods.changes)
    assert result.complaints == []
    assert result.supersessions == 3 * ALL
    for group, (_, mode) in zip(bases, GROUPS, strict=True):
        for identity in group.identities:
            assert group.orders(identity) == orders(by_order=mode == "default")


def orders(*, by_order: bool) -> list[tuple[str, str]]:
    """The orders that one base gets, each once. by_order: the new version needs an order that switches to it."""
    expected = [("install", "biz1:0.0.1")]
    for old, new in (("0.0.1", "0.0.2"), ("0.0.2", "0.0.3"), ("0.0.3", "0.0.2")):
        expected.append(("install", f"biz1:{new}"))
        if by_order:
            expected.append(("switch", f"biz1:{new}"))
        expected.append(("uninstall", f"biz1:{old}"))
    return expected


def everywhere(sandbox: Sandbox, version: str) -> Json:
    """The Deployment of the examples, with a copy on each base."""
    obj = sandbox.manifest("deployment.yaml", version=version)
    obj["spec"]["replicas"] = ALL
    assert obj["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert pod_spec(obj)["containers"][0]["image"] == f"https://repo.example/biz1-{version}.jar"
    return obj


def complete(sandbox: Sandbox) -> None:
    """Wait until the Deployment controller has seen the update, and all Pods are new and available."""

    def done() -> bool:
        obj = sandbox.get("Deployment", "biz1") or {}
        status, generation = obj.get("status", {}), obj.get("metadata", {}).get("generation")
        counted = [status.get(kind, 0) for kind in ("replicas", "updatedReplicas", "availableReplicas")]
        return bool(status.get("observedGeneration") == generation and counted == [ALL] * 3)

    eventually(done, within=120, what="the rollout complete")
    eventually(lambda: len(sandbox.pods(leaving=True)) == ALL, within=60, what="old Pods gone")
    # Creation times have a resolution of a second: of two Pods of one second neither is known to be the newer one.
    time.sleep(1.0)


def inside(bases: list[Bases]) -> list[dict[str, str]]:
    return [modules for group in bases for modules in group.states().values()]
