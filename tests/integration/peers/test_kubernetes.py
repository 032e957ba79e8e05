"""A peer Deployment has a Pod on each of twenty bases that come, go and fall silent, and loses no other Pod."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.everything import Bases, Everything, Namespace, manifest
from tests.programs import Programs, ask, eventually, throughout
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import Json
from tests.servers.mosquitto import Mosquitto

pytestmark = pytest.mark.timeout(400)

PEER, BIZ = "biz1-peer", {"biz1:0.0.1": "activated"}
DELAY = 5
"""Seconds; MODULE_SCALE_DOWN_DELAY of the control plane."""
DOMAIN = "virtual-kubelet.koupleless.io"


class Scene(Namespace):
    """The namespace default, and the replicas of its Deployments."""

    def __init__(self, everything: Everything) -> None:
        super().__init__(everything.cluster.api)
        self.everything = everything

    def replicas(self, name: str = PEER) -> int:
        deployment = self.get("Deployment", name)
        assert deployment is not None
        return int(deployment["spec"]["replicas"])

    def available(self, name: str = PEER) -> int:
        return int((self.get("Deployment", name) or {}).get("status", {}).get("availableReplicas", 0))

    def wait(self, replicas: int, *, within: float) -> None:
        """Return once the peer Deployment has so many replicas, and as many Pods, all available."""
        eventually(lambda: self.replicas() == replicas, within=within, what=f"{replicas} replicas")
        eventually(lambda: self.available() == len(self.pods()) == replicas, within=60, what=f"{replicas} Pods")

    def held(self) -> float:
        """Return the number of Deployments that are not scaled down for want of data."""
        _, text = ask(f"http://127.0.0.1:{self.everything.control_plane.metrics}/metrics")
        lines = (line.split() for line in text.splitlines())
        return float(next(line[1] for line in lines if line[:1] == ["koupleless_peer_deployments_held"]))


@pytest.fixture
def scene(kube: KubeCluster, mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Scene]:
    with Programs(tmp_path) as programs:
        environ = {"ENABLE_MODULE_DEPLOYMENT_CONTROLLER": "true", "MODULE_SCALE_DOWN_DELAY": str(DELAY)}
        yield Scene(Everything(kube, mosquitto, programs, **environ).start())


def variant(name: str, *, replicas: int = 2, labels: dict[str, str | None], spec: Json | None = None) -> Json:
    """Return the example under another name, with other labels and another spec of its Pods."""
    obj = manifest("peer-deployment.yaml", name=name)
    obj["metadata"]["labels"] = {
        key: value for key, value in {**obj["metadata"]["labels"], **labels}.items() if value is not None
    }
    obj["spec"]["replicas"] = replicas
    template = obj["spec"]["template"]
    obj["spec"]["selector"]["matchLabels"]["module"] = template["metadata"]["labels"]["module"] = name
    template["spec"].pop("affinity")
    template["spec"].update(spec or {})
    return obj


def affinity(operator: str, *values: str) -> Json:
    expression = {"key": "base.koupleless.io/cluster-name", "operator": operator, "values": list(values)}
    terms = [{"matchExpressions": [expression]}]
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    }


def each_has_the_module(*fleets: Bases) -> bool:
    return all(modules == BIZ for bases in fleets for modules in bases.states().values())


def test_a_peer_deployment_follows_twenty_bases_up_and_down(scene: Scene) -> None:
    scene.apply(manifest("peer-deployment.yaml"))
    http = scene.everything.bases("h", count=10)
    mqtt = scene.everything.bases("m", tunnel="mqtt", count=10)
    scene.wait(20, within=60)
    assert each_has_the_module(http, mqtt)
    for base in mqtt.identities[:8]:
        mqtt.control("deactivate", base)
    scene.wait(12, within=DELAY + 30)
    assert each_has_the_module(http)
    assert all(mqtt.states()[base] == BIZ for base in mqtt.identities[8:])
    for base in mqtt.identities[:8]:
        mqtt.control("start", base)
    scene.wait(20, within=60)
    # One that only restarts is back before it is counted out.
    http.control("restart", http.identities[0])
    throughout(lambda: scene.replicas() == 20, seconds=DELAY + 5, what="20 replicas")
    eventually(lambda: each_has_the_module(http, mqtt), within=30, what="the module back on the restarted base")
    # One that falls silent is gone after its Node is.
    http.control("stop", http.identities[1])
    throughout(lambda: scene.replicas() == 20, seconds=50, what="20 replicas while the base is only silent")
    scene.wait(19, within=60)
    assert "PeerReplicasChanged" in scene.reasons(PEER)
    assert "PeerReplicasNotChanged" not in scene.reasons(PEER)


def test_what_cannot_be_known_lowers_nothing(scene: Scene) -> None:
    scene.apply(manifest("peer-deployment.yaml"))
    bases = scene.everything.bases("h", count=20)
    scene.wait(20, within=60)
    installs = len(bases.orders())
    control_plane, gateway = scene.everything.control_plane, scene.everything.http
    # Most bases fall silent together; none of them is removed, so all of them count.
    for base in bases.identities[:15]:
        bases.control("stop", base)
    throughout(lambda: scene.replicas() == 20, seconds=75, what="20 replicas while most bases are silent")
    for base in bases.identities[:15]:
        bases.control("start", base)
    eventually(lambda: scene.available() == 20, within=60, what="all Pods available again")
    # The gateway is away, then the control plane, then the API server.
    gateway.server.stop(signal.SIGKILL)
    throughout(lambda: scene.replicas() == 20, seconds=10, what="20 replicas without a gateway")
    gateway.start()
    control_plane.server.stop(signal.SIGKILL)
    control_plane.start()
    throughout(lambda: scene.replicas() == 20, seconds=15, what="20 replicas after a restart")
    scene.everything.cluster.stop_apiserver(signal.SIGKILL)
    scene.everything.cluster.start_apiserver()
    throughout(lambda: scene.replicas() == 20, seconds=DELAY + 15, what="20 replicas after an outage of the API server")
    assert scene.held() == 0
    # Stopped bases lost their modules and got them again; the others got no order.
    assert len(bases.orders()) - installs <= 15


def test_bad_deployments_beside_it_harm_nothing(scene: Scene) -> None:
    scene.apply(manifest("peer-deployment.yaml"))
    for obj in (
        variant("exists", labels={}, spec=affinity("Exists")),
        variant("not-in", labels={}, spec=affinity("NotIn", "default")),
        variant("greater", labels={}, spec=affinity("Gt", "5")),
        variant("other-cluster", labels={"base.koupleless.io/cluster-name": "other"}),
        variant("huge", replicas=1000, labels={}),
        variant("no-env", labels={f"{DOMAIN}/env": None}),
        variant("any-env", labels={f"{DOMAIN}/env": None}, spec={"tolerations": [{"operator": "Exists"}]}),
        variant("numbers", labels={}, spec=affinity("Lt", "many")),
        variant("other-env", labels={f"{DOMAIN}/env": "prod"}),
        variant("own", labels={f"{DOMAIN}/replicas-control": "true"}),
        variant("intolerant", labels={}, spec={"tolerations": []}),
    ):
        # They are about numbers: their Pods stay without a Node.
        obj["spec"]["template"]["spec"]["schedulerName"] = "nobody"
        scene.apply(obj)
    scene.everything.bases("h", count=3)
    expected = {
        "biz1-peer": 3,
        "exists": 3,
        "not-in": 0,
        "greater": 0,
        "other-cluster": 0,
        "huge": 3,
        # Its Pods tolerate this environment alone.
        "no-env": 3,
        "any-env": 2,
        "numbers": 0,
        "other-env": 2,
        "own": 2,
        "intolerant": 0,
    }
    eventually(
        lambda: {name: scene.replicas(name) for name in expected} == expected,
        within=60,
        what="the replicas that each ought to have",
    )
    throughout(lambda: {name: scene.replicas(name) for name in expected} == expected, seconds=5, what="they stay so")
    assert "PeerDeploymentIgnored" in scene.reasons("any-env")
    assert "PeerDeploymentIgnored" not in scene.reasons("no-env")


def test_labels_choose_the_deployments_that_the_original_chooses(scene: Scene) -> None:
    labels: dict[str, dict[str, str | None]] = {
        "component-env-peer": {},
        "env-peer": {"component": None},
        "peer": {"component": None, "env": None},
        "env": {"component": None, "strategy": None},
        "component": {"env": None, "strategy": None},
    }
    for name, changes in labels.items():
        obj = variant(name, labels={f"{DOMAIN}/{label}": value for label, value in changes.items()})
        spec = obj["spec"]["template"]["spec"]
        spec["schedulerName"] = "nobody"
        spec["containers"][0]["name"] = f"biz-{name}"
        scene.apply(obj)
    scene.everything.bases("h", count=3)
    expected = {"component-env-peer": 3, "env-peer": 3, "peer": 3, "env": 2, "component": 2}
    eventually(
        lambda: {name: scene.replicas(name) for name in expected} == expected,
        within=60,
        what="replicas of the peers as many as bases",
    )
    question = b'{"identity":"h-1","name":"shop","version":"1","clusterName":"default"}'
    code, answer = ask(f"{scene.everything.http.url}/queryBaseline", method="POST", body=question)
    given = {module["bizName"] for module in json.loads(answer)}
    assert (code, given) == (200, {"biz-component-env-peer", "biz-env-peer", "biz-env"})


def test_a_cordoned_base_keeps_its_pod(scene: Scene) -> None:
    scene.apply(manifest("peer-deployment.yaml"))
    bases = scene.everything.bases("h", count=3)
    scene.wait(3, within=60)
    pods = {pod["metadata"]["name"] for pod in scene.pods()}
    scene.api.patch(f"/api/v1/nodes/{bases.nodes[0]}", {"spec": {"unschedulable": True}})
    more = scene.everything.bases("i")
    scene.wait(4, within=30)
    throughout(lambda: scene.replicas() == 4, seconds=DELAY + 5, what="4 replicas")
    assert pods < {pod["metadata"]["name"] for pod in scene.pods()}
    assert each_has_the_module(bases, more)
    # Drained, it has none and counts no more.
    drained = next(pod for pod in scene.pods() if pod["spec"]["nodeName"] == bases.nodes[0])
    scene.delete("Pod", drained["metadata"]["name"])
    scene.wait(3, within=DELAY + 40)
    assert pods - {drained["metadata"]["name"]} < {pod["metadata"]["name"] for pod in scene.pods()}
