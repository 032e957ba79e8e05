"""Probes of a Pod decide its Ready condition, and containers that are no modules are ignored."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest

from tests.everything import condition, ready
from tests.integration.life.conftest import Sandbox, wait_available
from tests.programs import eventually, throughout
from tests.servers.kubeapi import Json

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]


class Health:
    """A module's own health page, on a port of loopback."""

    def __init__(self) -> None:
        self.status = 503
        self.asked: list[str] = []
        answer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer.asked.append(f"{self.path} {self.headers['X-Probe']}")
                self.send_response(answer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    @contextmanager
    def served(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
def health() -> Iterator[Health]:
    with Health().served() as served:
        yield served


def probed(sandbox: Sandbox, health: Health, **probe: object) -> Json:
    """A Pod for biz1 with a readiness probe by the name of a port."""
    obj = sandbox.manifest("biz1.yaml")
    get = {"port": "web", "path": "/biz1/health", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}
    obj["spec"]["containers"][0] |= {
        "ports": [{"name": "web", "containerPort": health.port}],
        "readinessProbe": {"httpGet": get, "periodSeconds": 1, "failureThreshold": 2, **probe},
    }
    return obj


def test_a_pod_is_ready_while_its_module_says_so(sandbox: Sandbox, health: Health, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    sandbox.apply(probed(sandbox, health))
    said = "modules not ready: biz1 (HTTP probe failed with statuscode: 503)"
    eventually(lambda: condition(sandbox.get("Pod", "biz1"), "Ready").get("message") == said, within=30, what=said)
    assert base.modules() == {"biz1:0.0.1": "activated"}
    eventually(lambda: "Unhealthy" in sandbox.reasons("biz1"), within=10, what="an Event")
    health.status = 200
    pod = sandbox.wait_ready("biz1")
    assert pod["status"]["containerStatuses"][0]["started"] is True
    assert set(health.asked) == {"/biz1/health yes"}
    health.status = 500
    eventually(lambda: not ready(sandbox.get("Pod", "biz1")), within=20, what="not Ready")
    assert base.orders() == [("install", "biz1:0.0.1")]


def serving(sandbox: Sandbox) -> dict[str, bool]:
    """Whether the Pod of each version is Ready."""
    return {pod["spec"]["containers"][0]["image"]: ready(pod) for pod in sandbox.pods()}


def test_a_rollout_waits_for_the_probe(sandbox: Sandbox, health: Health) -> None:
    sandbox.bases("a", "--multi-version", "both")
    deployment = sandbox.manifest("deployment.yaml")
    deployment["spec"]["replicas"] = 1
    template = probed(sandbox, health)["spec"]["containers"][0]
    deployment["spec"]["template"]["spec"]["containers"][0] |= {
        "ports": template["ports"],
        "readinessProbe": template["readinessProbe"],
    }
    health.status = 200
    sandbox.apply(deployment)
    wait_available(sandbox, "Deployment", "biz1", 1)
    newer = sandbox.manifest("deployment.yaml", version="0.0.2")
    newer["spec"]["replicas"] = 1
    unhealthy = {**template["readinessProbe"], "httpGet": {"port": 1}}
    newer["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = unhealthy
    sandbox.apply(newer)
    eventually(lambda: len(sandbox.pods()) == 2, within=30, what="the new Pod beside the old one")
    old = {"https://repo.example/biz1-0.0.1.jar": True, "https://repo.example/biz1-0.0.2.jar": False}
    throughout(lambda: serving(sandbox) == old, seconds=10, what="the old one serves")


def test_a_module_without_anything_at_its_port_is_reported(sandbox: Sandbox, health: Health) -> None:
    sandbox.bases("a")
    obj = probed(sandbox, health, httpGet={"port": 1}, failureThreshold=1)
    sandbox.apply(obj)
    said = "no answer from port 1 of 127.0.0.1"
    eventually(lambda: said in condition(sandbox.get("Pod", "biz1"), "Ready").get("message", ""), within=30, what=said)


def test_injected_containers_break_nothing(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    deployment = sandbox.manifest("deployment.yaml")
    deployment["spec"]["replicas"] = 1
    spec = deployment["spec"]["template"]["spec"]
    spec["containers"].append({"name": "istio-proxy", "image": "istio/proxyv2:1.30"})
    spec["initContainers"] = [
        {"name": "istio-init", "image": "istio/proxyv2:1.30"},
        {"name": "log-shipper", "image": "fluent-bit:5", "restartPolicy": "Always"},
    ]
    if sandbox.everything.cluster.minor < 28:
        spec["initContainers"].pop()
    sandbox.apply(deployment)
    wait_available(sandbox, "Deployment", "biz1", 1)
    assert base.modules() == {"biz1:0.0.1": "activated"}
    (pod,) = sandbox.pods()
    states = {each["name"]: each["state"] for each in pod["status"]["containerStatuses"]}
    assert "running" in states["biz1"]
    assert states["istio-proxy"]["terminated"]["reason"] == "NotAModule"
    assert "istio-proxy" in {each["name"] for each in pod["spec"]["containers"]}
    for status in pod["status"]["initContainerStatuses"]:
        assert (status["state"]["terminated"]["reason"], status["state"]["terminated"]["exitCode"]) == ("NotAModule", 0)
    name = pod["metadata"]["name"]
    eventually(lambda: sandbox.reasons(name).count("FieldsIgnored") == 1, within=10, what="one Event")
    throughout(lambda: sandbox.reasons(name).count("FieldsIgnored") == 1, seconds=3, what="and no other")
    sandbox.delete("Deployment", "biz1")
    eventually(lambda: base.modules() == {}, within=60, what="the module gone")
