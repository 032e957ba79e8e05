"""A base with a module that moves between a deployment of the original and one of ours."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from tests.everything import Bases, Namespace
from tests.everything import manifest as manifest_of
from tests.integration.deploy.service import Forwarder
from tests.integration.docs.original import Original, find
from tests.integration.docs.original_tunnels import HttpTunnel, MqttTunnel
from tests.integration.docs.stage import USERS, Stage
from tests.servers.kubeapi import Json

VNODE = "vnode.shop-1.dev"
MODULE = "biz1:0.0.1"
SERVICE = "/api/v1/namespaces/default/services/module-controller"
HTTP = {"ENABLE_HTTP_TUNNEL": "true", "ENV": "dev", "VNODE_WORKER_NUM": "8"}
MQTT = {"ENABLE_MQTT_TUNNEL": "true", "MQTT_BROKER": "mosquitto.koupleless-system", "ENV": "dev"}


@dataclass
class Operator:
    """A cluster in which one of the two controllers manages a base with a module."""

    stage: Stage
    original: Original
    http: HttpTunnel
    base: Bases

    def node(self) -> Json | None:
        """Return the base's Node, None when there is none."""
        return find(self.stage.cluster.api, f"/api/v1/nodes/{VNODE}")

    def pod(self) -> Json | None:
        """Return the module's Pod, None when there is none."""
        return Namespace(self.stage.cluster.api).get("Pod", "biz1")

    def deploy_module(self) -> Json:
        """Create the module's Pod on the base's Node; return it once it is Ready."""
        module = manifest_of("biz1.yaml")
        module["spec"]["nodeName"] = VNODE
        default = Namespace(self.stage.cluster.api)
        default.apply(module)
        return default.wait_ready("biz1")

    def here(self) -> Mapping[str, str]:
        """Return the addresses on this machine by the addresses of the page."""
        return {**self.stage.here(), "http://127.0.0.1:7777": f"http://127.0.0.1:{self.http.port}"}

    def check_untouched(self, node: Json | None, pod: Json | None) -> None:
        """Fail if Node, Pod or module are not those of before, or the original crashed."""
        assert self.original.failure is None
        assert set(self.base.orders()) == {("install", MODULE)}
        assert self.base.modules() == {MODULE: "activated"}
        for before, now in ((node, self.node()), (pod, self.pod())):
            assert before is not None
            assert now is not None
            assert before["metadata"]["uid"] == now["metadata"]["uid"]
            assert not now["metadata"].get("deletionTimestamp")


@contextmanager
def operator(place: Stage, environ: Mapping[str, str], *heartbeats: str) -> Iterator[Operator]:
    """Give an operator; the original has the variables environ, the base uses its tunnel. Neither runs yet."""
    write_manifests(place, environ)
    http = HttpTunnel()
    mqtt = "ENABLE_MQTT_TUNNEL" in environ
    tunnel = MqttTunnel(place.broker.port, "gateway", USERS["gateway"]) if mqtt else http
    service = Forwarder(lambda: behind_the_service(place, http))
    options = ["--controller", f"http://127.0.0.1:{service.port}"]
    if mqtt:
        options = ["--tunnel", "mqtt", "--env", "dev", "--broker", "127.0.0.1", "--mqtt-port", str(place.broker.port)]
        options += ["--mqtt-username", "shop-1", "--mqtt-password", USERS["shop-1"]]
    base = Bases(place.programs, "shop-1", *options, *heartbeats, count=1)
    try:
        with Original(place.cluster.api, tunnel) as original:
            yield Operator(place, original, http, base)
    finally:
        service.close()
        http.end()


def behind_the_service(place: Stage, http: HttpTunnel) -> Sequence[int]:
    """Return where the original's Service leads at this moment: to its Pod, or to a Service of another namespace."""
    service = find(place.cluster.api, SERVICE)
    if service is None:
        return []
    if service["spec"]["type"] == "ExternalName":
        name, namespace, *_ = service["spec"]["externalName"].split(".")
        return place.kubelet.behind(f"{name}.{namespace}:7777")
    return [http.port]


def write_manifests(place: Stage, environ: Mapping[str, str]) -> None:
    """Put the manifests of the original into the folder "original"."""
    folder = place.folder / "original"
    folder.mkdir()
    for manifest in (original_pod(environ), ORIGINAL_SERVICE):
        (folder / f"{manifest['kind'].lower()}.yaml").write_text(yaml.safe_dump(manifest))


def original_pod(environ: Mapping[str, str]) -> Json:
    """Return the original's Pod as it is deployed."""
    env = [{"name": name, "value": value} for name, value in environ.items()]
    container = {"name": "module-controller", "image": "registry.example/the-original:2.1.0", "env": env}
    meta = {"name": "module-controller", "namespace": "default", "labels": {"app": "module-controller"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


ORIGINAL_SERVICE: Json = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "module-controller", "namespace": "default"},
    "spec": {"selector": {"app": "module-controller"}, "ports": [{"port": 7777}]},
}
