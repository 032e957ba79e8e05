"""Sends probes as kubelets do: plain connections without proxies, cookies or checks of certificates.

An answer is bounded in size and a redirect is followed on the same host only. Nothing but the verdict comes back: no
part of an answer is shown to who wrote the Pod.
"""

import asyncio
import os
from collections.abc import Iterable
from typing import Self
from urllib.parse import urljoin, urlsplit

import grpc
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controlplane.domain.probes import Grpc, Handler, HttpGet, Outcome, TcpSocket
from service.addresses import AddressPolicy, AddressRefused, Network
from service.listening import host_port

USER_AGENT = "kube-probe/koupleless"
"""Servers know probes by its beginning."""

MOST_REDIRECTS = 10
MOST_BYTES = 10 << 10
"""Bytes of a body that are read, as by a kubelet."""
MOST_HEAD = 8 << 10

_SUCCESS = Outcome(True)
_GRPC_OPTIONS = (
    ("grpc.primary_user_agent", USER_AGENT),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", MOST_BYTES),
)


class ProbeClient:
    """Implements ``controlplane.app.ports.ProbeSender``, as a context manager; sends to these networks only."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._policy = AddressPolicy(networks)

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(force_close=True, limit=0, ssl=False),
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept-Encoding",),
            max_line_size=MOST_HEAD,
            max_field_size=MOST_HEAD,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, ip: str, handler: Handler) -> Outcome:
        """Send one probe to an IP address; whatever goes wrong is a failure. The caller bounds the time."""
        port = handler.port
        if not port.number:
            return Outcome(False, f"no port of the container is named {port.name!r}")
        try:
            ip = self._policy.check(ip, port.number)
        except AddressRefused as error:
            return Outcome(False, f"not sent: {error}")
        match handler:
            case HttpGet():
                return await self._http(ip, handler)
            case TcpSocket():
                return await _tcp(ip, port.number)
            case Grpc():
                return await _grpc(ip, handler)

    async def _http(self, ip: str, get: HttpGet) -> Outcome:
        path = urlsplit(get.path)._replace(scheme="", netloc="", fragment="").geturl()
        scheme = "https" if get.tls else "http"
        try:
            return await self._follow(f"{scheme}://{host_port(ip, get.port.number)}/{path.lstrip('/')}", get.headers)
        except (ClientError, OSError) as error:
            return Outcome(False, _unreachable(ip, get.port.number, error))
        except ValueError as error:
            return Outcome(False, f"the request cannot be sent: {error}")

    async def _follow(self, url: str, headers: Iterable[tuple[str, str]]) -> Outcome:
        host = urlsplit(url).hostname
        for _ in range(1 + MOST_REDIRECTS):
            async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(MOST_BYTES)
            if answer.status >= 400:
                return Outcome(False, f"HTTP probe failed with statuscode: {answer.status}")
            location = answer.headers.get("Location", "")
            url = urljoin(url, location)
            if answer.status < 300 or not location or urlsplit(url).hostname != host:
                return _SUCCESS
        return Outcome(False, f"stopped after {MOST_REDIRECTS} redirects")


async def _tcp(ip: str, port: int) -> Outcome:
    try:
        _, writer = await asyncio.open_connection(ip, port)
    except OSError as error:
        return Outcome(False, _unreachable(ip, port, error))
    writer.transport.abort()
    return _SUCCESS


async def _grpc(ip: str, handler: Grpc) -> Outcome:
    address = host_port(ip, handler.port.number)
    async with grpc.aio.insecure_channel(address, options=_GRPC_OPTIONS) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # its stubs leave it out
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=handler.service))
        except grpc.aio.AioRpcError as error:
            return Outcome(False, f"health rpc probe failed: {error.code().name}")
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return _SUCCESS
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return Outcome(False, f"service unhealthy (responded with {status})")


def _unreachable(ip: str, port: int, error: Exception) -> str:
    cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
    return f"no answer from port {port} of {ip}: {cause}"
