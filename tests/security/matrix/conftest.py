"""One stage for all rows."""

from collections.abc import Iterator

import pytest

from tests.security.matrix.stage import Stage, staged
from tests.servers.cluster import KubeCluster


@pytest.fixture(scope="package")
def stage(kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(kube_cluster, tmp_path_factory.mktemp("matrix")) as stage:
        yield stage
