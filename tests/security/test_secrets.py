"""Real programs that know secrets, and are attacked: what they write, show and send has none of them."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.programs import (
    ControlPlane,
    HttpGateway,
    Mctl,
    MqttGateway,
    Programs,
    SimulatedBase,
    ask,
    eventually,
    status,
)
from tests.servers.mosquitto import Mosquitto

pytestmark = [pytest.mark.timeout(240), pytest.mark.mosquitto]

REPORT_TOKEN, TUNNEL_TOKEN, MQTT_PASSWORD, HOOK_TOKEN = (
    f"c4nary-{name}-0123" for name in ("rep", "tun", "mqtt", "hook")
)
CALLER, JAR_PASSWORD, SIGNATURE = "c4nary-caller", "c4nary-jar", "c4nary-signature"
URL = f"https://deploy:{JAR_PASSWORD}@repo.example/biz1.jar?v=1&Signature={SIGNATURE}#not-found"
SHOWN = "https://***@repo.example/biz1.jar?v=1&Signature=***"
CANARY = "c4nary"

DEPLOYMENT = f"""
apiVersion: apps/v1
kind: Deployment
metadata:
  name: biz1
  labels: {{virtual-kubelet.koupleless.io/component: module-deployment, virtual-kubelet.koupleless.io/env: dev}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: biz1}}}}
  template:
    metadata:
      labels: {{app: biz1, virtual-kubelet.koupleless.io/component: module}}
    spec:
      tolerations:
      - {{key: schedule.koupleless.io/virtual-node, operator: Equal, value: "True", effect: NoExecute}}
      - {{key: schedule.koupleless.io/node-env, operator: Equal, value: dev, effect: NoExecute}}
      containers:
      - name: biz1
        image: "{URL}"
        env: [{{name: BIZ_VERSION, value: "1"}}]
"""


class Robot:
    """A robot's webhook that keeps what it is sent."""

    def __init__(self, port: int) -> None:
        self.bodies: list[dict[str, Any]] = []
        taken = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = b'{"errcode": 0}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def texts(self) -> list[str]:
        return [body["markdown"]["text"] for body in self.bodies]


@dataclass
class Scene:
    """The programs, with secrets in their settings; a base over MQTT whose baseline fails."""

    control_plane: ControlPlane
    http: HttpGateway
    mqtt: MqttGateway
    base: SimulatedBase
    robot: Robot
    mctl: Mctl
    report_port: int
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)

    def logs(self) -> str:
        """Return what all programs of ours wrote."""
        return "\n".join(each.server.log.read_text() for each in (self.control_plane, self.http, self.mqtt))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("secrets")
    with Mosquitto() as broker, Programs(folder) as programs:
        report, robot_port = programs.port(), programs.port()
        robot = Robot(robot_port)
        (folder / "tracker.yaml").write_text(f"logDir: {folder}\nreportLevel: debug\n")
        control_plane = ControlPlane(
            programs,
            CLUSTER="embedded",
            EMBEDDED_DB=str(folder / "cluster.db"),
            REPORT_PORT=str(report),
            REPORT_TOKEN=REPORT_TOKEN,
            REPORT_HOOKS=f"http://127.0.0.1:{robot_port}/robot/send?access_token={HOOK_TOKEN}",
            TRACKER_CONFIG_PATH=str(folder / "tracker.yaml"),
        ).start()
        http = HttpGateway(programs, control_plane.address, HTTP_TUNNEL_TOKEN=TUNNEL_TOKEN).start()
        account = {"MQTT_USERNAME": "gateway", "MQTT_PASSWORD": MQTT_PASSWORD}
        mqtt = MqttGateway(programs, control_plane.address, broker.port, **account).start()
        mctl = control_plane.mctl()
        (folder / "deployment.yaml").write_text(DEPLOYMENT)
        mctl("apply", "-f", str(folder / "deployment.yaml"))
        options = ("--tunnel", "mqtt", "--broker", "127.0.0.1", "--mqtt-port", str(broker.port), "--env", "dev")
        base = SimulatedBase(programs, "http://127.0.0.1:9", "b1", *options).start()
        ports = {"log": report, "health": control_plane.health, "metrics": control_plane.metrics, "tunnel": http.port}
        yield Scene(control_plane, http, mqtt, base, robot, mctl, report, folder, ports)
        robot.close()


@pytest.mark.parametrize("port", ["log", "health", "metrics", "tunnel"])
def test_what_is_reset_while_it_is_asked_to_go_on_leaves_no_header_in_the_log(scene: Scene, port: str) -> None:
    paths = {"log": "/log", "health": "/readyz", "metrics": "/metrics", "tunnel": "/heartbeat"}
    heads = (
        f"POST {paths[port]} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {CALLER}\r\nContent-Length: 10\r\n"
        "Expect: 100-continue\r\n\r\n",
        f"POST {paths[port]} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {CALLER}\r\nExpect: {CALLER}\r\n\r\n",
        f"POST {paths[port]} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {CALLER}\r\nTransfer-Encoding: chunked\r\n"
        f"Expect: 100-continue\r\n\r\nZZ{CALLER}\r\n",
        f"POST {paths[port]}?token={CALLER} HTTP/1.1\r\nAuthorization Bearer {CALLER}\r\n\r\n",
    )
    for head in heads * 5:
        _send_and_reset(scene.ports[port], head.encode())
    assert status(f"http://127.0.0.1:{scene.control_plane.health}/livez") == 200
    assert status(f"http://127.0.0.1:{scene.http.health}/livez") == 200
    log = scene.logs()
    assert CANARY not in log
    assert '"exception"' not in log, "no trace, whose frames would have the head of the request"
    assert log.count("broke its connection") <= 2, "one line a minute and program"


def test_a_failed_baseline_shows_no_secret_of_a_url(scene: Scene) -> None:
    eventually(lambda: "BaselineInstallFailed" in scene.mctl("events"), within=60, what="the failure of the baseline")
    eventually(lambda: "ContainerStart" in "".join(scene.robot.texts()), within=60, what="the failure at the hook")
    eventually(lambda: "ContainerStart" in _tracked(scene), within=30, what="the failure in the tracker's file")
    assert URL in json.dumps(scene.base.commands()), "the order has the URL as it is"
    shown = {
        "log": scene.logs(),
        "events": scene.mctl("events", "-o", "json"),
        "wide": scene.mctl("get", "modules", "-o", "wide"),
        "json": scene.mctl("get", "modules", "-o", "json"),
        "module": scene.mctl("describe", "module", "biz1"),
        "vnode": scene.mctl("describe", "vnode", "b1"),
        "baseline": scene.mctl("baseline", "--cluster-name", "default", "--name", "simulated-base"),
        "hook": json.dumps(scene.robot.bodies, ensure_ascii=False),
        "tracker": _tracked(scene),
    }
    for where, text in shown.items():
        assert CANARY not in text, where
        assert "repo.example/biz1.jar" in text, f"{where}: which module it is can be seen"


def test_who_may_read_pods_sees_the_urls(scene: Scene) -> None:
    for command in (
        ("get", "modules", "-o", "json"),
        ("get", "modules", "-o", "wide"),
        ("describe", "module", "biz1"),
        ("describe", "vnode", "b1"),
        ("baseline", "--cluster-name", "default", "--name", "simulated-base"),
    ):
        assert URL in scene.mctl(*command, "--show-secrets"), command
        assert CANARY not in scene.mctl(*command), command


def test_an_install_that_is_refused_shows_no_secret(scene: Scene) -> None:
    install = ("install", "biz9", "--version", "1", "--base", "b1", "--url")
    scene.mctl(*install, URL)
    refused = scene.mctl(*install, URL.replace("v=1", "v=2"), code=1)
    assert f"another URL, {SHOWN}" in refused
    assert CANARY not in refused
    assert CANARY not in scene.mctl(*install, f"deploy:{JAR_PASSWORD}@repo.example?token={CALLER}", code=1)


def test_texts_of_log_neither_mention_nor_link_nor_format(scene: Scene) -> None:
    text = f"@all @13800000000 [click](http://evil.example/) **bold**\n# head \x1b[31m \u202e https://u:{CALLER}@h"
    report = dict.fromkeys(("traceID", "scene", "event", "result", "message", "code"), text)
    body = json.dumps({**report, "labels": {text: text}}).encode()
    _post(scene.report_port, body)
    found = eventually(
        lambda: [each for each in scene.robot.texts() if "evil" in each], within=60, what="the report at the hook"
    )
    (made,) = found
    assert not any(active in made for active in ("@", "://", "[click]", "](", "**bold", "\n# ", "\x1b", "\u202e"))
    assert made.count("＠all") == 8
    assert CANARY not in made
    assert CANARY not in scene.logs()


def test_no_secret_of_the_settings_is_anywhere(scene: Scene) -> None:
    for value in (REPORT_TOKEN, TUNNEL_TOKEN, MQTT_PASSWORD, HOOK_TOKEN):
        _post(scene.report_port, json.dumps({"message": f"it is {value}", "event": value}).encode())
    eventually(lambda: sum("it is" in text for text in scene.robot.texts()) == 4, within=60, what="the reports")
    written = "".join(path.read_text(errors="replace") for path in scene.folder.glob("*.log"))
    # One that only a gateway knows the control plane cannot mask.
    for value in (REPORT_TOKEN, HOOK_TOKEN):
        assert value not in written
        assert value not in json.dumps(scene.robot.bodies)
        assert value not in ask(f"http://127.0.0.1:{scene.control_plane.metrics}/metrics")[1]
    for gateway in (scene.http, scene.mqtt):
        text = gateway.server.log.read_text()
        assert TUNNEL_TOKEN not in text
        assert MQTT_PASSWORD not in text


def _tracked(scene: Scene) -> str:
    path = scene.folder / "events.log"
    return path.read_text() if path.exists() else ""


def _post(port: int, body: bytes) -> None:
    head = (
        f"POST /log HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {REPORT_TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(1024).startswith(b"HTTP/1.1 200")


def _send_and_reset(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(data)
