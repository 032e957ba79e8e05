"""Isolation for tests that share one stage: a namespace, and bases with a cluster name of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.everything import WORKLOADS, Bases, Everything, Namespace, manifest, ready
from tests.programs import Programs, eventually
from tests.servers.cluster import KubeCluster
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.servers.kubeapi import Json
from tests.servers.mosquitto import Mosquitto


@contextmanager
def stage(cluster: KubeCluster, folder: Path, **environ: str) -> Iterator[Everything]:
    """Run everything but bases on a cluster that is clean; environ goes to the control plane."""
    cluster.clean()
    try:
        broker = Mosquitto()
    except Unavailable as error:
        not_run("mosquitto", str(error))
    with broker, Programs(folder) as programs:
        yield Everything(cluster, broker, programs, **environ).start()


@contextmanager
def isolated(everything: Everything, name: str) -> Iterator["Sandbox"]:
    """Create a namespace, name a cluster of bases after it, and remove what is left in them at the end."""
    everything.cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    own = Sandbox(everything, name, name)
    try:
        yield own
    finally:
        own.end()
        everything.cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="package")
def everything(
    request: pytest.FixtureRequest, kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Everything]:
    """Everything but bases, running: one for each package that imports it."""
    with stage(kube_cluster, tmp_path_factory.mktemp(_package(request))) as running:
        yield running


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, everything: Everything) -> Iterator["Sandbox"]:
    """A namespace and a cluster of bases for one test."""
    with isolated(everything, f"{_package(request)}-{next(_numbers)}") as own:
        yield own


def _package(request: pytest.FixtureRequest) -> str:
    return request.path.parent.name.replace("_", "-")


_numbers = count(1)


class Sandbox(Namespace):
    """A test's own namespace and bases. The manifests of other tests do not select its cluster of bases."""

    def __init__(self, everything: Everything, namespace: str, cluster: str) -> None:
        super().__init__(everything.cluster.api, namespace)
        self.everything = everything
        self.cluster = cluster
        self._started: list[Bases] = []

    def bases(self, identity: str, *arguments: str, tunnel: str = "http", count: int = 1) -> Bases:
        """Start bases; return when their Nodes are Ready."""
        bases = self.everything.bases(
            f"{identity}-{self.cluster}", "--cluster-name", self.cluster, *arguments, tunnel=tunnel, count=count
        )
        self._started.append(bases)
        for node in bases.nodes:
            eventually(lambda node=node: ready(self.node(node)), within=60, what=f"{node} Ready")  # type: ignore[misc]
        return bases

    def node(self, name: str) -> Json | None:
        """Return a Node, None when there is none."""
        return next((node for node in self.api.items("/api/v1/nodes") if node["metadata"]["name"] == name), None)

    def manifest(self, file: str, *, version: str = "0.0.1", name: str = "") -> Json:
        """Return an example, for the bases of this test."""
        return manifest(file, version=version, cluster=self.cluster, name=name)

    def pod(self, name: str, *, module: str = "biz1", version: str = "0.0.1") -> Json:
        """Create a Pod for a module."""
        obj = self.manifest("biz1.yaml", version=version, name=name)
        (container,) = obj["spec"]["containers"]
        container |= {"name": module, "image": f"https://repo.example/{module}-{version}.jar"}
        return self.apply(obj)

    def end(self) -> set[str]:
        """Remove everything that the test left; return the bases, which the control plane may know for a while."""
        for kind in WORKLOADS:
            for obj in self.api.items(self.path(kind)):
                self.delete(kind, obj["metadata"]["name"])
        for bases in self._started:
            if bases.server.running:
                bases.control("deactivate")
            bases.server.stop()
        for node in [node for bases in self._started for node in bases.nodes]:
            self.api.delete(f"/api/v1/nodes/{node}")
        while pods := self.pods(leaving=True):
            for pod in pods:
                self.delete("Pod", pod["metadata"]["name"], force=True)
        return {identity for bases in self._started for identity in bases.identities}
