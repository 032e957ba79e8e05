"""A base with more to say than a message may hold does not cut its gateway off."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, ask, eventually

pytestmark = pytest.mark.timeout(120)

RECORDS = [{"state": "BROKEN", "reason": "r" * 250, "message": "m" * 500, "changeTime": 1}]
MODULES = [
    {"bizName": f"{number:04}{'b' * 200}", "bizVersion": "1", "bizState": "BROKEN", "bizStateRecords": RECORDS}
    for number in range(3000)
]
ANSWER = json.dumps({"code": "SUCCESS", "data": MODULES}).encode()
"""3.3 MB, which an answer may have; a message to the control plane may have 1.5 MiB."""


class Answers(BaseHTTPRequestHandler):
    """A base that answers every command with the list."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Requests are no news."""


@pytest.fixture
def talker() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def heartbeat(gateway: HttpGateway, port: int) -> None:
    """Send a heartbeat of the base on this port."""
    metadata = {"identity": "talker", "name": "base", "version": "1", "clusterName": "default"}
    body = {"baseMetadata": metadata, "localIP": "127.0.0.1", "localHostName": "h", "port": port, "state": "ACTIVATED"}
    assert ask(f"{gateway.url}/heartbeat", method="POST", body=json.dumps(body).encode())[0] == 200


def counted(gateway: HttpGateway, series: str) -> float:
    _, text = ask(f"http://127.0.0.1:{gateway.metrics}/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))


def test_a_list_larger_than_a_message_is_refused_and_nobody_else_waits(programs: Programs, talker: int) -> None:
    database = str(programs.folder / "cluster.db")
    control_plane = ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=database).start()
    gateway = HttpGateway(programs, control_plane.address).start()
    mctl = control_plane.mctl()

    def refused() -> bool:
        heartbeat(gateway, talker)
        return counted(gateway, 'koupleless_gateway_reports_total{kind="PollFailed",queued="true"}') >= 2

    eventually(refused, within=60, what="two lists refused")
    base = SimulatedBase(programs, gateway.url, "b1").start()
    eventually(lambda: "vnode.b1.dev" in {n["name"] for n in mctl.items("get", "vnodes")}, within=20, what="a VNode")
    mctl("install", "biz1", "--version", "1.0.0", "--url", "https://repo.example/biz1.jar", "--base", "b1")
    eventually(lambda: "biz1:1.0.0" in base.modules(), within=20, what="the module on the other base")
    assert counted(gateway, "koupleless_gateway_stream_ends_total") == 0
