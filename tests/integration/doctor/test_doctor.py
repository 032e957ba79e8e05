"""module-controller doctor on real servers finds what is wrong, names the fix, and changes nothing."""

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from paho.mqtt import publish as paho
from paho.mqtt import subscribe

from modulecontroller.configuration import VARIABLES, survey
from modulecontroller.doctor import broker
from modulecontroller.doctor.examine import examine
from modulecontroller.doctor.findings import Finding
from tests.integration.http_gateway.raw import heartbeat_body
from tests.integration.mqtt_gateway.test_access import tls_broker
from tests.programs import ControlPlane, HttpGateway, Programs, ask, eventually
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import Json
from tests.servers.mosquitto import Mosquitto
from tests.servers.process import Port

pytestmark = pytest.mark.timeout(120)

INSTALL = "koupleless_dev/10.0.0.9/installBiz"

KUBERNETES = frozenset(
    {
        "daemonset-controller",
        "default-scheduler",
        "deployment-controller",
        "node-controller",
        "replicaset-controller",
        "statefulset-controller",
        "taint-eviction-controller",
    }
)
"""Components of Kubernetes that write Events in these tests."""


def author(event: Json) -> str:
    """Return the component that wrote an Event, in the old field or in the new one."""
    component: str = event.get("reportingComponent") or event.get("source", {}).get("component", "")
    return component


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES | {"KUBERNETES_SERVICE_HOST"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(broker, "LISTEN", 3.0)


async def look(monkeypatch: pytest.MonkeyPatch, program: str, **variables: str) -> dict[str, list[tuple[str, str]]]:
    """Return what was found about what: level and message."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in await examine(survey([program]), limit=60):
        assert_explained(finding)
        found.setdefault(finding.about, []).append((finding.level.value, finding.message))
    return found


def assert_explained(finding: Finding) -> None:
    assert finding.message
    assert bool(finding.fix) is (finding.level.value in ("warning", "error")), finding


class TestKubernetes:
    async def test_a_cluster_that_is_as_it_should_be(self, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        found = await look(
            monkeypatch,
            "controlplane",
            CLUSTER="kubernetes",
            KUBECONFIG=str(kube.kubeconfig("controlplane")),
            NAMESPACE="koupleless-system",
            ENABLE_MODULE_DEPLOYMENT_CONTROLLER="true",
        )
        assert [level for level, _ in found["API server"]] == ["ok"]
        assert kube.version in found["API server"][0][1]
        assert [level for level, _ in found["permissions"]] == ["ok"], found["permissions"]
        assert [level for level, _ in found["clock"]] == ["ok"]

    async def test_a_user_who_may_do_nothing(self, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        found = await look(monkeypatch, "controlplane", CLUSTER="kubernetes", KUBECONFIG=str(kube.kubeconfig("nobody")))
        assert {level for level, _ in found["permissions"]} == {"error"}
        messages = " ".join(message for _, message in found["permissions"])
        assert "may not get, list, watch, create, patch, delete nodes (needed for: one Node for each base)" in messages
        assert "leases in kube-node-lease" in messages
        assert "deployments/scale" not in messages

    async def test_a_user_who_may_do_everything(self, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        found = await look(monkeypatch, "controlplane", CLUSTER="kubernetes", KUBECONFIG=str(kube.kubeconfig("admin")))
        assert [level for level, _ in found["permissions"]] == ["ok", "warning"]

    async def test_no_api_server(self, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        config = kubeconfig(kube)
        port = Port()
        broken = tmp_path / "kubeconfig"
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port.number}"
        broken.write_text(json.dumps(config))
        found = await look(monkeypatch, "controlplane", CLUSTER="kubernetes", KUBECONFIG=str(broken))
        port.close()
        assert [level for level, _ in found["API server"]] == ["error"]
        assert {found[about][0][0] for about in ("permissions", "clock")} == {"skipped"}

    async def test_an_api_server_with_another_certificate(
        self, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        config = kubeconfig(kube)
        del config["clusters"][0]["cluster"]["certificate-authority"]
        broken = tmp_path / "kubeconfig"
        broken.write_text(json.dumps(config))
        found = await look(monkeypatch, "controlplane", CLUSTER="kubernetes", KUBECONFIG=str(broken))
        assert "its certificate is not good" in found["API server"][0][1]

    async def test_looking_writes_nothing(self, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        def everything() -> dict[str, list[Any]]:
            paths = ("/api/v1/nodes", "/api/v1/pods", "/api/v1/events", "/apis/coordination.k8s.io/v1/leases")
            found = {path: kube.api.items(path) for path in paths}
            # Kubernetes' own controllers still comment on what earlier tests removed.
            found["/api/v1/events"] = [each for each in found["/api/v1/events"] if author(each) not in KUBERNETES]
            return {path: [each["metadata"]["uid"] for each in items] for path, items in found.items()}

        before = everything()
        await look(monkeypatch, "controlplane", CLUSTER="kubernetes", KUBECONFIG=str(kube.kubeconfig("admin")))
        assert everything() == before


class TestBroker:
    async def test_heartbeats_and_retained_commands_are_found(
        self, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, programs: Programs
    ) -> None:
        publish(mosquitto, INSTALL, b'{"bizName":"biz1"}')
        for identity, env in (("base-1", "dev"), ("base-2", "default")):
            programs.program(
                f"base-{identity}",
                "simulatedbase",
                *("--tunnel", "mqtt", "--identity", identity, "--env", env, "--heartbeat-interval", "1"),
                environ={"MQTT_BROKER": mosquitto.host, "MQTT_PORT": str(mosquitto.port)},
            ).start()
            # A process takes its time to come up.
            heart = f"koupleless_{env}/{identity}/base/heart"
            await asyncio.to_thread(subscribe.simple, heart, hostname=mosquitto.host, port=mosquitto.port)
        found = await look(monkeypatch, "mqtt-gateway", **at(mosquitto))
        assert found["broker"][0][0] == "ok"
        assert found["subscriptions"] == [("ok", "the broker grants all 7 that are needed")]
        assert found["shared subscriptions"][0][0] == "ok"
        assert ("ok", "1 bases send heartbeats under koupleless_dev/+/base/heart: base-1") in found["topics"]
        assert any("base-2 send heartbeats in the environment default" in message for _, message in found["topics"])
        assert found["clocks of bases"][0][0] == "ok"
        assert "1 retained commands of another controller lie ready for 10.0.0.9" in found["leftovers"][0][1]
        # Nothing was removed: a second run finds the same.
        again = await look(monkeypatch, "mqtt-gateway", **at(mosquitto))
        assert again["leftovers"] == found["leftovers"]

    async def test_no_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        port = Port()
        found = await look(monkeypatch, "mqtt-gateway", MQTT_BROKER="127.0.0.1", MQTT_PORT=str(port.number))
        port.close()
        assert [level for level, _ in found["broker"]] == ["error"]
        assert "cannot be reached" in found["broker"][0][1]

    @pytest.mark.mosquitto
    async def test_a_user_whom_the_broker_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Mosquitto(["allow_anonymous false"]) as closed:
            found = await look(
                monkeypatch, "mqtt-gateway", MQTT_USERNAME="u", MQTT_PASSWORD="not-to-be-seen", **at(closed)
            )
        assert [level for level, _ in found["broker"]] == ["error"]
        assert "not-to-be-seen" not in str(found)

    @pytest.mark.mosquitto
    @pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
    async def test_tls_that_the_broker_wants_and_we_do_not_use(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        ca = trustme.CA()
        with tls_broker(tmp_path, ca) as broker_:
            settings = at(broker_)
            assert (await look(monkeypatch, "mqtt-gateway", **settings))["broker"][0][0] == "error"
            (good := tmp_path / "good.pem").write_bytes(ca.cert_pem.bytes())
            found = await look(monkeypatch, "mqtt-gateway", MQTT_CA_PATH=str(good), **settings)
            assert found["broker"][0] == (
                "ok",
                f"127.0.0.1:{broker_.port} lets us in without a user name; its certificate is good",
            )
            (bad := tmp_path / "bad.pem").write_bytes(trustme.CA().cert_pem.bytes())
            found = await look(monkeypatch, "mqtt-gateway", MQTT_CA_PATH=str(bad), **settings)
            assert "certificate is not good" in found["broker"][0][1]
        # paho leaves the socket of a failed handshake to the garbage collector: collected here, under the filter.
        gc.collect()


class TestPorts:
    async def test_a_port_in_use_is_an_error_that_names_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            found = await look(
                monkeypatch, "http-gateway", HTTP_TUNNEL_LISTEN_PORT=str(port), HTTP_TUNNEL_LISTEN_HOST="127.0.0.1"
            )
        errors = [message for level, message in found["ports"] if level == "error"]
        assert len(errors) == 1
        assert errors[0].startswith(f"HTTP_TUNNEL_LISTEN_PORT={port} is in use by process {os.getpid()}")

    async def test_a_port_that_our_own_program_uses_is_ok(
        self, monkeypatch: pytest.MonkeyPatch, programs: Programs, tmp_path: Path
    ) -> None:
        control_plane = ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=str(tmp_path / "db")).start()
        gateway = HttpGateway(programs, control_plane.address).start()
        found = await look(
            monkeypatch,
            "http-gateway",
            HTTP_TUNNEL_LISTEN_PORT=str(gateway.port),
            CONTROL_PLANE=f"{control_plane.address},127.0.0.1:1",
        )
        assert found["ports"][0][0] == "ok"
        assert "our own process" in found["ports"][0][1]
        assert found["control plane"][0] == (
            "ok",
            f"CONTROL_PLANE={control_plane.address}: {control_plane.address} serves",
        )
        assert found["control plane"][1][0] == "error"

    async def test_a_base_whose_port_cannot_be_reached(
        self, programs: Programs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        control_plane = ControlPlane(programs).start()
        host, _, port = control_plane.address.rpartition(":")
        variables = {"CLUSTER": "embedded", "GRPC_HOST": host, "GRPC_PORT": port}
        assert (await look(monkeypatch, "controlplane", **variables))["VNodes"] == [("ok", "there are none yet")]
        gateway = HttpGateway(programs, control_plane.address).start()
        closed = programs.port()
        answer = ask(f"{gateway.url}/heartbeat", method="POST", body=heartbeat_body("deaf", port=closed))
        assert answer[0] == 200, answer

        def refused() -> str:
            (vnode,) = control_plane.mctl().items("get", "vnodes") or [{"message": ""}]
            return str(vnode.get("message", ""))

        await asyncio.to_thread(eventually, lambda: "refused" in refused(), within=15, what="a question refused")
        ((level, message),) = (await look(monkeypatch, "controlplane", **variables))["VNodes"]
        assert level == "warning"
        assert f"1 of 1 do not answer: vnode.deaf.dev: it has not answered a command yet: 127.0.0.1:{closed}" in message
        monkeypatch.setenv("GRPC_PORT", str(programs.port()))
        ((level, message),) = (await look(monkeypatch, "controlplane"))["VNodes"]
        assert (level, "no control plane answers" in message) == ("skipped", True)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with Programs(tmp_path) as started:
        yield started


def kubeconfig(kube: KubeCluster) -> dict[str, Any]:
    """Return what is in the control plane's kubeconfig."""
    config: dict[str, Any] = json.loads(kube.kubeconfig("controlplane").read_text())
    return config


def at(server: Mosquitto) -> dict[str, str]:
    return {"MQTT_BROKER": server.host, "MQTT_PORT": str(server.port)}


def publish(server: Mosquitto, topic: str, payload: bytes) -> None:
    """Publish a retained message, as another controller would have."""
    paho.single(topic, payload, qos=1, retain=True, hostname=server.host, port=server.port)


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_command_reports_errors_and_exits_with_1(output: str, programs: Programs, tmp_path: Path) -> None:
    port = programs.port()
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environ |= {
        "ENABLE_HTTP_TUNNEL": "true",
        "CLUSTER": "embedded",
        "EMBEDDED_DB": str(tmp_path / "cluster.db"),
        "GRPC_PORT": "x",
        "HTTP_TUNNEL_LISTEN_PORT": str(port),
    }
    command = [sys.executable, "-m", "modulecontroller", "doctor", "--output", output]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    if output == "text":
        assert "error    settings" in done.stdout
        assert "fix: correct the variable" in done.stdout
    else:
        assert json.loads(done.stdout)["summary"]["error"] == 1


class TestReports:
    async def test_which_hooks_can_be_reached_and_used(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        port, tracker = Port(), tmp_path / "tracker.yaml"
        with socket.create_server(("127.0.0.1", 0)) as listening:
            here, nobody = f"http://127.0.0.1:{listening.getsockname()[1]}", f"http://127.0.0.1:{port.number}"
            tracker.write_text(f"logDir: {tmp_path}\nreportLinks: ['{here}/log']\n")
            found = await look(
                monkeypatch,
                "controlplane",
                CLUSTER="embedded",
                REPORT_HOOKS=f"{here}/s3cret; {nobody}/s3cret; YOUR_REPORT_HOOKS",
                TRACKER_CONFIG_PATH=str(tracker),
            )
        port.close()
        assert found["reports"] == [
            ("ok", f"hook 1 ({here}/***) can be reached"),
            ("warning", f"hook 2 ({nobody}/***) cannot be reached: Connection refused"),
            ("ok", f"link 1 ({here}/***) can be reached"),
        ]
        assert ("warning", "REPORT_HOOKS=********: hook 3 (***) gets no reports: it is not a URL") in found["settings"]
        assert "s3cret" not in str(found)

    async def test_a_hook_behind_a_proxy_is_not_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        found = await look(monkeypatch, "controlplane", CLUSTER="embedded", REPORT_HOOKS="http://192.0.2.1/x")
        assert found["reports"] == [
            ("skipped", "hook 1 (http://192.0.2.1/***) is called through a proxy, and not tried")
        ]
