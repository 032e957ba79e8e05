"""One stage for all tests: two bases with a module each; one base is a container of a Pod, the other is not.

The tests of the server alone have a scene each, in this process.
"""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.integration.kubelet.node import NodeKubelet
from tests.integration.kubelet.scene import Scene, running
from tests.integration.main_job.conftest import module_pod
from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, ask, eventually
from tests.servers import manifests, rbac
from tests.servers.cluster import ADMIN, CONTROL_PLANE, KubeCluster, kubectl
from tests.servers.kubeapi import Json

SHIPPED = rbac.SHIPPED.parent / "kubelet"
SYSTEM, BASES, MODULES = "koupleless-system", "bases", "modules"
SERVICES = f"/api/v1/namespaces/{SYSTEM}/services"
POD, BARE = "biz1", "biz2"
"""Pods of modules: on the base that is a Pod, and on the one that is none."""
LOG = f"{BASES}/shop-0/base"


@dataclass
class Stage:
    kube: KubeCluster
    programs: Programs
    node: NodeKubelet
    control_plane: ControlPlane
    gateway: str
    port: int
    service_ip: str
    certificate: tuple[Path, Path]

    def kubectl(self, *arguments: str, user: str = ADMIN, within: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run kubectl until it ends."""
        return subprocess.run(
            self.command(*arguments, user=user),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def command(self, *arguments: str, user: str = ADMIN) -> list[str]:
        kubeconfig = str(self.kube.kubeconfig(user))
        return [str(kubectl()), "--kubeconfig", kubeconfig, "--namespace", MODULES, *arguments]

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.programs.folder)}

    def vnode(self, base: str = "b1") -> Json:
        return self.kube.api.get(f"/api/v1/nodes/vnode.{base}.dev")

    def metric(self, name: str) -> float:
        """Return the sum of a metric's series whose line begins so."""
        text = ask(f"http://127.0.0.1:{self.control_plane.metrics}/metrics")[1]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def kubelet_of(node: Json) -> tuple[list[Json], int]:
    """Return the addresses of a Node, and its kubelet's port."""
    status = node["status"]
    return status["addresses"], status["daemonEndpoints"]["kubeletEndpoint"]["Port"]


def service(port: int) -> Json:
    """Return the shipped Service. Without kube-proxy its port must be the one that the program listens on."""
    obj = next(each for each in manifests.load(SHIPPED / "service.yaml") if each["kind"] == "Service")
    obj["spec"]["ports"][0] |= {"port": port, "targetPort": port}
    return obj


def put_base_pod(kube: KubeCluster, port: int, node: str, name: str, ip: str) -> None:
    """Create a node with a kubelet at a port, and on it a Pod in which a base runs."""
    status: Json = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    kube.api.create("/api/v1/nodes", {"metadata": {"name": node}, "status": status})
    kube.api.patch(f"/api/v1/nodes/{node}/status", {"status": status})
    pods = f"/api/v1/namespaces/{BASES}/pods"
    containers = [{"name": "sidecar", "image": "sidecar"}, {"name": "base", "image": "base"}]
    metadata = {"name": name, "annotations": {"base.koupleless.io/exec-from": f"others, {MODULES}"}}
    kube.api.create(pods, {"metadata": metadata, "spec": {"nodeName": node, "containers": containers}})
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
    kube.api.patch(f"{pods}/{name}/status", {"status": status})


def put_module(kube: KubeCluster, name: str, base: str) -> None:
    pod = module_pod(name, name, "0.0.1")
    pod["spec"]["nodeName"] = f"vnode.{base}.dev"
    kube.api.create(f"/api/v1/namespaces/{MODULES}/pods", pod)


def ready(kube: KubeCluster, name: str) -> bool:
    pod = kube.api.get(f"/api/v1/namespaces/{MODULES}/pods/{name}")
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@pytest.fixture(scope="package")
def stage(kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    kube, folder = kube_cluster, tmp_path_factory.mktemp("kubelet")
    kube.clean()
    with ExitStack() as stack:
        for namespace in (BASES, MODULES):
            eventually(partial(make_namespace, kube, namespace), within=60, what=f"namespace {namespace}")
        rbac.apply(kube.api, CONTROL_PLANE, SHIPPED / "rbac.yaml")
        stack.callback(remove, kube, manifests.load(SHIPPED / "rbac.yaml"))
        programs = stack.enter_context(Programs(folder))
        port = programs.port()
        applied = manifests.apply(kube.api, service(port))
        stack.callback(remove, kube, [service(port)])
        address = applied["spec"]["clusterIP"]
        node = stack.enter_context(NodeKubelet(kube.pki.server("worker", "127.0.0.1"), kube.pki.ca))
        node.say(LOG, "one", "two", "three")
        put_base_pod(kube, node.port, "worker", "shop-0", "127.0.0.1")
        certificate = kube.pki.server("kubelet", address)
        control_plane = ControlPlane(
            programs,
            CLUSTER="kubernetes",
            KUBECONFIG=str(kube.kubeconfig(CONTROL_PLANE)),
            NAMESPACE=SYSTEM,
            KUBELET_PROXY_ENABLED="true",
            KUBELET_EXEC_ENABLED="true",
            KUBELET_PROXY_PORT=str(port),
            KUBELET_PROXY_CRT_PATH=str(certificate[0]),
            KUBELET_PROXY_KEY_PATH=str(certificate[1]),
            KUBELET_PROXY_CLIENT_CA_PATH=str(kube.pki.ca),
        ).start()
        gateway = HttpGateway(programs, control_plane.address).start()
        SimulatedBase(programs, gateway.url, "b1", "--host-name", "shop-0").start()
        SimulatedBase(programs, gateway.url, "b2", "--host-name", "bare", ip="127.0.0.2").start()
        for name, base in ((POD, "b1"), (BARE, "b2")):
            put_module(kube, name, base)
        for name in (POD, BARE):
            eventually(partial(ready, kube, name), within=60, what=f"Pod {name} Ready")
        yield Stage(kube, programs, node, control_plane, gateway.url, port, address, certificate)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as programs:
        yield programs


def make_namespace(kube: KubeCluster, name: str) -> bool:
    """Apply a namespace; False while an earlier one of that name is being deleted."""
    applied = manifests.apply(kube.api, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return bool(applied["status"].get("phase") == "Active")


def remove(kube: KubeCluster, objects: list[Json]) -> None:
    for obj in objects:
        kube.api.delete(f"{manifests.collection(obj)}/{obj['metadata']['name']}")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with running(tmp_path) as scene:
        yield scene
