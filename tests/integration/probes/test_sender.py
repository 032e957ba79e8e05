"""Probes against real servers on loopback: results, limits, and addresses that are never asked."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest
import trustme
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from controlplane.domain.probes import Grpc, Handler, HttpGet, Outcome, Port, TcpSocket
from controlplane.probing.sender import ProbeClient
from service.addresses import DEFAULT_NETWORKS, Network
from tests.serving import serving

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def send(handler: Handler, networks: Sequence[Network] = LOOPBACK, ip: str = "127.0.0.1") -> Outcome:
    async with asyncio.timeout(10), ProbeClient(networks) as client:
        return await client.send(ip, handler)


@asynccontextmanager
async def http(respond: Respond, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A web server; the port."""
    runner = web.ServerRunner(web.Server(respond))  # type: ignore[arg-type]
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def get(port: int, path: str = "/", **more: object) -> HttpGet:
    return HttpGet(Port(port), path, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (200, ""),
        (204, ""),
        (304, ""),
        (399, ""),
        (400, "HTTP probe failed with statuscode: 400"),
        (404, "HTTP probe failed with statuscode: 404"),
        (503, "HTTP probe failed with statuscode: 503"),
    ],
)
async def test_a_status_from_200_to_399_is_success(status: int, message: str) -> None:
    async def respond(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=None if status in (204, 304) else "a secret of the module")

    async with http(respond) as port:
        assert await send(get(port)) == Outcome(not message, message)


async def test_the_request_is_that_of_a_kubelet() -> None:
    seen: list[web.BaseRequest] = []

    async def respond(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    async with http(respond) as port:
        headers = (("X-One", "1"), ("X-One", "2"), ("Host", "shop.example"))
        await send(get(port, "/biz1/health?full=yes&x=%26%25", headers=headers))
        await send(get(port, "health", headers=(("User-Agent", "mine"),)))
        await send(get(port, "http://elsewhere.example:1/there"))
    first, second, third = seen
    assert first.raw_path == "/biz1/health?full=yes&x=%26%25"
    assert first.headers.getall("X-One") == ["1", "2"]
    assert (first.headers["Host"], first.headers["Accept"]) == ("shop.example", "*/*")
    assert first.headers["User-Agent"].startswith("kube-probe/")
    assert "Accept-Encoding" not in first.headers
    assert (second.raw_path, second.headers["User-Agent"]) == ("/health", "mine")
    assert third.raw_path == "/there"


async def test_a_redirect_is_followed_on_the_same_host_only() -> None:
    paths: list[str] = []

    async def respond(request: web.Request) -> web.Response:
        paths.append(request.path)
        targets = {
            "/login": "/fails",
            "/away": "http://127.0.0.2:1/fails",
            "/loop": "/loop",
            "/odd": "http://[",
        }
        if request.path in targets:
            return web.Response(status=302, headers={"Location": targets[request.path]})
        return web.Response(status=500)

    async with http(respond) as port:
        assert (await send(get(port, "/login"))).message == "HTTP probe failed with statuscode: 500"
        assert (await send(get(port, "/away"))).success
        assert paths == ["/login", "/fails", "/away"]
        assert (await send(get(port, "/loop"))).message == "stopped after 10 redirects"
        assert paths.count("/loop") == 11
        assert not (await send(get(port, "/odd"))).success


async def test_certificates_are_not_checked() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("somebody.else").configure_cert(context)

    async def respond(_request: web.Request) -> web.Response:
        return web.Response()

    async with http(respond, context) as port:
        assert (await send(get(port, tls=True))).success
        assert not (await send(get(port))).success


async def test_of_an_answer_without_end_only_so_much_is_read() -> None:
    written = 0

    async def respond(request: web.Request) -> web.StreamResponse:
        nonlocal written
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 65536)
            written += 65536

    async with http(respond) as port:
        assert (await send(get(port))).success
    # The rest is what the kernel took into its buffers.
    assert written < 16 << 20


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"\x00\xff" * 50]
)
async def test_what_is_no_http_is_a_failure(said: bytes) -> None:
    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with serving(respond) as port:
        outcome = await send(get(port))
    assert not outcome.success
    assert f"port {port} of 127.0.0.1" in outcome.message


async def test_a_header_that_cannot_be_sent_is_a_failure() -> None:
    async def respond(_request: web.Request) -> web.Response:
        return web.Response()

    async with http(respond) as port:
        outcome = await send(get(port, headers=(("X", "a\r\nInjected: yes"),)))
    assert not outcome.success


async def test_a_port_that_accepts_is_success_and_one_that_refuses_is_not() -> None:
    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(respond) as port:
        assert (await send(TcpSocket(Port(port)))).success
    for handler in (TcpSocket(Port(port)), get(port)):
        assert (await send(handler)).message == f"no answer from port {port} of 127.0.0.1: Connection refused"


async def test_grpc_health_decides() -> None:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert (await send(Grpc(Port(port)))).success
        await servicer.set("shop", health_pb2.HealthCheckResponse.NOT_SERVING)
        outcome = await send(Grpc(Port(port), "shop"))
        assert outcome.message == "service unhealthy (responded with NOT_SERVING)"
        assert (await send(Grpc(Port(port), "nobody"))).message == "health rpc probe failed: NOT_FOUND"
    finally:
        await server.stop(None)
    assert (await send(Grpc(Port(port)))).message == "health rpc probe failed: UNAVAILABLE"


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254", "8.8.8.8", "", "localhost"])
@pytest.mark.parametrize("handler", [HttpGet(Port(80)), TcpSocket(Port(80)), Grpc(Port(80))])
async def test_what_is_no_base_is_never_asked(ip: str, handler: Handler) -> None:
    outcome = await send(handler, DEFAULT_NETWORKS, ip)
    assert not outcome.success
    assert outcome.message.startswith("not sent: ")


async def test_a_port_name_that_the_container_does_not_have_is_named() -> None:
    outcome = await send(TcpSocket(Port(0, "web")))
    assert outcome == Outcome(False, "no port of the container is named 'web'")
