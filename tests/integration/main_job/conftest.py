"""The stage of these tests: a clean cluster, a control plane under the shipped roles, an HTTP gateway."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, eventually
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError, Json

NODES, PODS, EVENTS = "/api/v1/nodes", "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@dataclass
class Stage:
    """The cluster and our programs; control plane and gateway run unless the test says otherwise."""

    kube: KubeCluster
    programs: Programs
    control_plane: ControlPlane
    gateway: HttpGateway

    def base(self, identity: str, *arguments: str, ip: str = "127.0.0.1") -> SimulatedBase:
        """Start a base."""
        return SimulatedBase(self.programs, self.gateway.url, identity, *arguments, ip=ip).start()

    def find(self, path: str, name: str) -> Json | None:
        """Return an object, None when there is none."""
        try:
            return self.kube.api.get(f"{path}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def node(self, identity: str) -> Json | None:
        return self.find(NODES, f"vnode.{identity}.dev")

    def pod(self, name: str) -> Json | None:
        return self.find(PODS, name)

    def node_ready(self, identity: str) -> str:
        return str(condition(self.node(identity), "Ready").get("status", ""))

    def pod_ready(self, name: str) -> bool:
        return condition(self.pod(name), "Ready").get("status") == "True"

    def wait_node_ready(self, identity: str, within: float = 30.0) -> Json:
        eventually(lambda: self.node_ready(identity) == "True", within=within, what=f"Node of {identity} Ready")
        node = self.node(identity)
        assert node is not None
        return node

    def wait_pod_ready(self, name: str, within: float = 30.0) -> Json:
        eventually(lambda: self.pod_ready(name), within=within, what=f"Pod {name} Ready")
        pod = self.pod(name)
        assert pod is not None
        return pod

    def create_pod(self, name: str, *, module: str = "biz1", version: str = "0.0.1") -> Json:
        return self.kube.api.create(PODS, module_pod(name, module, version))

    def delete_pod(self, name: str) -> None:
        self.kube.api.delete(f"{PODS}/{name}")

    def reasons(self, name: str) -> set[str]:
        """Return the reasons of the Events about an object."""
        events = self.kube.api.items("/api/v1/events")
        return {event["reason"] for event in events if event["involvedObject"]["name"] == name}


def condition(obj: Json | None, kind: str) -> Json:
    conditions = (obj or {}).get("status", {}).get("conditions", [])
    found: Json = next((c for c in conditions if c["type"] == kind), {})
    return found


def module_pod(name: str, module: str, version: str) -> Json:
    return {
        "metadata": {"name": name, "labels": {"virtual-kubelet.koupleless.io/component": "module"}},
        "spec": {
            "containers": [
                {
                    "name": module,
                    "image": f"https://repo.example/{module}-{version}.jar",
                    "env": [{"name": "BIZ_VERSION", "value": version}],
                }
            ],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "base.koupleless.io/cluster-name", "operator": "In", "values": ["default"]}
                                ]
                            }
                        ]
                    }
                }
            },
            "tolerations": [
                {
                    "key": "schedule.koupleless.io/virtual-node",
                    "operator": "Equal",
                    "value": "True",
                    "effect": "NoExecute",
                },
                {"key": "schedule.koupleless.io/node-env", "operator": "Equal", "value": "dev", "effect": "NoExecute"},
            ],
        },
    }


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as programs:
        yield programs


@pytest.fixture
def idle_stage(kube: KubeCluster, programs: Programs) -> Stage:
    """The stage before its programs are started."""
    control_plane = ControlPlane(
        programs,
        **kube.environ(),
        LOG_LEVEL="debug",
    )
    return Stage(kube, programs, control_plane, HttpGateway(programs, control_plane.address, LOG_LEVEL="debug"))


@pytest.fixture
def stage(idle_stage: Stage) -> Stage:
    """The stage with control plane and gateway running."""
    idle_stage.control_plane.start()
    idle_stage.gateway.start()
    return idle_stage
