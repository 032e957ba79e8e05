"""An HTTP gateway takes heartbeats and baseline questions of bases, and refuses everything else."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from prometheus_client import REGISTRY
from pydantic import SecretStr

from gateways.http.listener import BOUNDS
from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Profile
from tests.fakes.controlplane import watch
from tests.integration.http_gateway.conftest import Scene, Start, gateway_running
from tests.integration.http_gateway.raw import exchange, heartbeat_body, request
from tests.servers.process import free_port


def refusals(reason: str) -> float:
    labels = {"listener": "bases", "reason": reason}
    return REGISTRY.get_sample_value("koupleless_listener_refused_total", labels) or 0.0


async def test_a_heartbeat_reaches_the_control_plane(scene: Scene) -> None:
    answer = await exchange(scene.gateway.port, request(heartbeat_body()))

    assert (answer.status, answer.body) == (200, b"SUCCESS")
    report = await scene.stream.report("heartbeat", "base-1")
    heartbeat = report.heartbeat
    assert (heartbeat.name, heartbeat.version, heartbeat.cluster_name, heartbeat.host_name) == (
        "shop",
        "1.0.0",
        "default",
        "h",
    )
    assert (heartbeat.address.ip, heartbeat.address.port) == ("127.0.0.1", 1238)
    assert heartbeat.state == pb.BASE_STATE_ACTIVATED
    assert report.HasField("observed_at")


@pytest.mark.parametrize("port", [{"port": None}, {"port": 0}, {"port": ""}, {"port": "1238"}, {"port": 1238.0}, {}])
async def test_a_base_that_sends_no_port_listens_on_1238(scene: Scene, port: dict[str, Any]) -> None:
    body = {"baseMetadata": {"identity": "base-1"}, "localIP": "127.0.0.1", **port}
    answer = await exchange(scene.gateway.port, request(json.dumps(body).encode()))

    assert (answer.status, answer.body) == (200, b"SUCCESS")
    heartbeat = (await scene.stream.report("heartbeat", "base-1")).heartbeat
    assert (heartbeat.address.ip, heartbeat.address.port) == ("127.0.0.1", 1238)
    assert heartbeat.state == pb.BASE_STATE_UNSPECIFIED


async def test_a_simulated_base_is_announced(scene: Scene) -> None:
    profile = Profile(identity="10.0.0.7", ip="127.0.0.1", port=0, controller=scene.gateway.url)
    base = SimulatedBase(profile)
    await base.start()
    try:
        heartbeat = (await scene.stream.report("heartbeat", "10.0.0.7")).heartbeat
        assert heartbeat.address.port == base.port
        await base.deactivate()
        await scene.stream.until(
            lambda: (
                any(
                    report.heartbeat.state == pb.BASE_STATE_DEACTIVATED for report in scene.stream.matching("heartbeat")
                )
                or None
            )
        )
    finally:
        await base.stop()


BAD_HEARTBEATS: list[tuple[str, bytes, str, str]] = [
    ("not JSON", b"hello", "malformed", "JSON"),
    ("cut JSON", heartbeat_body()[:-3], "malformed", "JSON"),
    ("a list", b"[]", "malformed", "object"),
    ("empty", b"", "malformed", "JSON"),
    ("no metadata", b"{}", "malformed", "baseMetadata"),
    ("identity is a list", heartbeat_body(identity=["x"]), "malformed", "identity"),
    ("identity is null", heartbeat_body(identity=None), "malformed", "identity"),
    ("identity is empty", heartbeat_body(identity=""), "", "identity"),
    ("identity in upper case", heartbeat_body(identity="Base-1"), "invalid_identity", "DNS-1123"),
    ("identity made up by the default hook", heartbeat_body(identity="unknown-Ab3Xy"), "invalid_identity", "DNS-1123"),
    ("identity with a slash", heartbeat_body(identity="a/b"), "invalid_identity", "DNS-1123"),
    ("identity with a wildcard", heartbeat_body(identity="+"), "invalid_identity", "DNS-1123"),
    ("identity of 300 characters", heartbeat_body(identity="a." * 149 + "aa"), "invalid_identity", "longer than 253"),
    ("port is a word", heartbeat_body(port="http"), "malformed", "port"),
    ("port -1", heartbeat_body(port=-1), "address", "found no free port"),
    ("port 70000", heartbeat_body(port=70000), "malformed", "70000"),
    ("no IP", heartbeat_body(ip=""), "address", "missing"),
    ("a host name", heartbeat_body(ip="example.com"), "address", "not an IP address"),
    ("a foreign address", heartbeat_body(ip="8.8.8.8"), "address", "HTTP_TUNNEL_ALLOWED_CIDRS"),
    ("metadata service", heartbeat_body(ip="169.254.169.254"), "address", "HTTP_TUNNEL_ALLOWED_CIDRS"),
    ("loopback of IPv6", heartbeat_body(ip="::1"), "address", "loopback"),
]


@pytest.mark.parametrize(
    ("body", "reason", "text"), [case[1:] for case in BAD_HEARTBEATS], ids=[c[0] for c in BAD_HEARTBEATS]
)
async def test_a_bad_heartbeat_is_refused_counted_and_changes_nothing(
    scene: Scene, body: bytes, reason: str, text: str
) -> None:
    before = refusals(reason)

    answer = await exchange(scene.gateway.port, request(body))

    assert answer.status == 400
    assert text in answer.body.decode()
    if reason:
        assert refusals(reason) == before + 1
    assert (await exchange(scene.gateway.port, request(heartbeat_body("witness")))).status == 200
    await scene.stream.report("heartbeat", "witness")
    assert [report.base_id for report in scene.stream.matching("heartbeat")] == ["witness"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_other_methods_are_refused(scene: Scene, method: str) -> None:
    answer = await exchange(scene.gateway.port, request(b"", method=method))
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


async def test_other_paths_are_refused(scene: Scene) -> None:
    assert (await exchange(scene.gateway.port, request(heartbeat_body(), path="/heartbeat/"))).status == 404


async def test_a_body_of_10_mb_is_refused_unread(scene: Scene) -> None:
    head = request(b"", Content_Length=str(10 << 20))
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.gateway.port)
    sent = 0

    async def send() -> None:
        nonlocal sent
        writer.write(head)
        for _ in range(160):
            writer.write(b" " * 65536)
            await writer.drain()
            sent += 65536

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    finally:
        sending.cancel()
        await asyncio.wait({sending})
        if not sending.cancelled():
            sending.exception()
        writer.transport.abort()
    assert sent < 10 << 20


async def test_an_endless_chunked_body_is_refused(scene: Scene) -> None:
    head = b"POST /heartbeat HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    answer = await exchange(scene.gateway.port, head, *[chunk] * 3)
    assert answer.status == 413


async def test_expect_continue_is_answered(scene: Scene) -> None:
    body = heartbeat_body("patient")
    whole = request(body, Expect="100-continue")
    head, _ = whole.split(b"\r\n\r\n", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.gateway.port)
    async with asyncio.timeout(5):
        writer.write(head + b"\r\n\r\n")
        assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200 ")
    writer.transport.abort()


async def test_a_slow_body_is_cut_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.listener.BODY_TIMEOUT", 0.2)
    answer = await exchange(scene.gateway.port, request(heartbeat_body())[:-5])
    assert answer.status == 408
    assert refusals("too_slow") >= 1


async def test_a_slow_head_is_cut_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.listener.BOUNDS", replace(BOUNDS, head=0.2))
    scene = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.gateway.port)
    async with asyncio.timeout(5):
        writer.write(b"POST /heartbeat HTTP/1.1\r\nHost:")
        assert await reader.read(-1) == b""
    writer.transport.abort()


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n"])
async def test_what_is_no_http_is_refused(scene: Scene, junk: bytes) -> None:
    assert (await exchange(scene.gateway.port, junk)).status == 400


async def test_long_headers_are_refused(scene: Scene) -> None:
    answer = await exchange(scene.gateway.port, request(heartbeat_body(), X_Long="x" * 20_000))
    assert answer.status == 400


async def test_a_base_without_the_token_is_refused(start: Start) -> None:
    scene = await start(token=SecretStr("s3cret"))
    port = scene.gateway.port
    assert (await exchange(port, request(heartbeat_body()))).status == 401
    assert (await exchange(port, request(heartbeat_body(), Authorization="Bearer wrong"))).status == 401
    assert (await exchange(port, request(heartbeat_body(), Authorization="Bearer s3cret"))).status == 200


async def test_too_many_requests_are_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.limits.RateLimit.admit", lambda *_: 1.5)
    answer = await exchange(scene.gateway.port, request(heartbeat_body()))
    assert answer.status == 429
    assert answer.headers["retry-after"] == "2"


async def test_an_identity_in_use_at_another_address_is_refused(scene: Scene) -> None:
    base = SimulatedBase(Profile(identity="shared", port=0, controller=""))
    await base.start()
    try:
        scene.stream.send(watch("shared", "127.0.0.1", base.port))
        await scene.stream.report("modules", "shared")
        foreign = await exchange(scene.gateway.port, request(heartbeat_body("shared", port=free_port())))
        same = await exchange(scene.gateway.port, request(heartbeat_body("shared", port=base.port)))
    finally:
        await base.stop()
    assert foreign.status == 409
    assert f"127.0.0.1:{base.port}" in foreign.body.decode()
    assert same.status == 200


async def test_without_a_control_plane_bases_are_asked_to_retry() -> None:
    async with gateway_running(f"127.0.0.1:{free_port()}") as gateway:
        answer = await exchange(gateway.port, request(heartbeat_body()))
        question = await exchange(gateway.port, request(b'{"identity":"a"}', path="/queryBaseline"))
        readiness = await _probe(gateway.status_socket, "/readyz")
        liveness = await _probe(gateway.status_socket, "/livez")
    assert (answer.status, question.status) == (503, 503)
    assert "retry-after" in answer.headers
    assert readiness[0] == 503
    assert "CONTROL_PLANE" in readiness[1]
    assert liveness[0] == 200


async def test_readiness_with_a_control_plane(scene: Scene) -> None:
    assert (await _probe(scene.gateway.status_socket, "/readyz"))[0] == 200
    assert (await scene.stream.report("tunnel_state")).tunnel_state.up


async def test_a_baseline_question_is_answered(scene: Scene) -> None:
    def answer(report: pb.Report) -> pb.BaselineAnswer:
        module = pb.ModuleRef(name="biz1", version="0.0.1", url="https://repo.example/biz1.jar")
        return pb.BaselineAnswer(base_id=report.base_id, query_id=report.baseline_query.query_id, modules=[module])

    scene.control_plane.on_baseline = answer
    body: dict[str, Any] = {"identity": "base-1", "name": "shop", "version": "1", "clusterName": "default"}
    got = await exchange(scene.gateway.port, request(json.dumps(body).encode(), path="/queryBaseline"))
    assert got.status == 200
    assert got.headers["content-type"].startswith("application/json")
    assert json.loads(got.body) == [
        {"bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": "https://repo.example/biz1.jar"}
    ]
    asked = (await scene.stream.report("baseline_query", "base-1")).baseline_query
    assert (asked.name, asked.version, asked.cluster_name) == ("shop", "1", "default")


async def test_a_baseline_question_that_nobody_answers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.requests.BASELINE_TIMEOUT", 0.2)
    got = await exchange(scene.gateway.port, request(b'{"identity":"base-1"}', path="/queryBaseline"))
    assert got.status == 503
    assert "retry-after" in got.headers


async def _probe(socket: str, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as client,
        client.get(f"http://gateway{path}") as response,
    ):
        return response.status, await response.text()
