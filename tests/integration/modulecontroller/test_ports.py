"""A port that gets another protocol refuses it, logs a line a minute without a traceback, and serves other clients."""

import os
import socket
from contextlib import suppress

from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import Programs

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000012040000000000000300000064000400100000")
TLS = bytes.fromhex("16030100c8010000c40303") + bytes(180)
OTHERS = (
    bytes(range(256)),
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nA b: c\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
    b"POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
)
PORTS = ("HEALTH_PORT", "METRICS_PORT", "REPORT_PORT", "HTTP_TUNNEL_LISTEN_PORT", "GRPC_PORT")


def exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        with suppress(ConnectionError, TimeoutError):
            return connection.recv(100)
    return b""


def test_no_port_logs_a_trace_for_what_is_no_http(programs: Programs) -> None:
    controller = ModuleController(programs).start()
    before = len(controller.server.log.read_text().splitlines())
    for name in PORTS:
        for data in (HTTP2, TLS, *OTHERS, os.urandom(300)):
            for _ in range(3):
                answer = exchange(controller.ports[name], data)
                assert name == "GRPC_PORT" or answer.startswith(b"HTTP/1.0 400") or not answer
    assert controller.ready()
    lines = controller.server.log.read_text().splitlines()[before:]
    assert not any("Traceback" in line or '"exception"' in line for line in lines), lines
    assert len(lines) <= 2 * len(PORTS), lines
    assert any("it is no HTTP/1 request" in line for line in lines)
