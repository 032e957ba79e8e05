"""One stage for all these tests, so that each test starts only its own bases and namespace."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.corner import Sandbox as Sandbox
from tests.corner import isolated, stage
from tests.everything import Everything
from tests.programs import eventually
from tests.servers.cluster import KubeCluster

UNINSTALL_TIMEOUT = 12.0
"""Seconds; MODULE_UNINSTALL_TIMEOUT of the control plane."""

_numbers = count(1)


@pytest.fixture(scope="package")
def everything(kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    """Everything but bases, running."""
    with stage(
        kube_cluster, tmp_path_factory.mktemp("life"), MODULE_UNINSTALL_TIMEOUT=str(UNINSTALL_TIMEOUT)
    ) as running:
        yield running


@pytest.fixture
def sandbox(everything: Everything) -> Iterator[Sandbox]:
    """A namespace and a cluster of bases for one test."""
    with isolated(everything, f"life-{next(_numbers)}") as own:
        yield own


def needs_surge(sandbox: Sandbox) -> None:
    """Skip the test where a DaemonSet has no maxSurge."""
    minor = int(sandbox.everything.cluster.version.split(".")[1])
    if minor < 22:
        pytest.skip(f"kubernetes 1.{minor}: maxSurge of a DaemonSet came with 1.22")


@pytest.fixture(params=["http", "mqtt"])
def tunnel(request: pytest.FixtureRequest) -> str:
    """Each tunnel."""
    return str(request.param)


def wait_available(sandbox: Sandbox, kind: str, name: str, replicas: int, within: float = 60.0) -> None:
    """Return once so many Pods of a Deployment, as it is now, are available and no other is left."""

    def done() -> bool:
        obj = sandbox.get(kind, name) or {"metadata": {}}
        status = obj.get("status", {})
        counts = [status.get(f"{which}Replicas", 0) for which in ("available", "updated")]
        seen = status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
        return seen and counts == [replicas, replicas] and status.get("replicas") == replicas

    eventually(done, within=within, what=f"{replicas} Pods of {kind} {name} available")
