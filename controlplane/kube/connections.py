"""Connections to the API server: kept and used again, through a proxy where there is one.

A connection may be dead without anybody saying so: something between us and the server
forgot it, or forwards nothing any more. Who finds one dead calls ``distrust``; whatever
is asked from then on goes over new connections.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDict
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy
from yarl import URL

from controlplane.kube.access import Access, Credentials, Proxy, basic
from controlplane.kube.resolver import StaleResolver

CONNECT_DEADLINE = 5.0
KEEP_ALIVE = 60.0
"""Seconds that an idle connection is kept; API servers close theirs after 90."""
DISTRUSTED_FOR = 120.0
"""Seconds after which connections that are not trusted are closed: requests on them have ended by then."""
PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
"""Seconds of silence until the kernel asks whether the peer is there, between questions, and how often it asks."""


@dataclass(slots=True)
class Sending:
    """How far a request has come, and who sent it over what."""

    sent: bool = False
    access: Access | None = None
    session: aiohttp.ClientSession | None = None


class Connections:
    """Sends requests as whom the credentials say. To be closed."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._resolver = StaleResolver()
        self._session: aiohttp.ClientSession | None = None
        self._distrusted: dict[aiohttp.ClientSession, asyncio.Task[None]] = {}
        self._streams: Counter[aiohttp.ClientSession] = Counter()

    async def close(self) -> None:
        """Close all connections, and the credentials."""
        for session, task in self._distrusted.items():
            task.cancel()
            await session.close()
        self._distrusted.clear()
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()
        await self._credentials.close()

    async def send(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        read_timeout: float | None = None,
        sending: Sending | None = None,
    ) -> aiohttp.ClientResponse:
        """Return the response to a request, whose body is still to be read.

        read_timeout is the seconds between two reads. Raises CannotConnect, aiohttp.ClientError, OSError.
        """
        sending = sending or Sending()
        access = sending.access = await self._credentials.access()
        headers = CIMultiDict({"Accept": "application/json"})
        if body is not None:
            headers["Content-Type"] = content_type
        if access.authorization:
            headers["Authorization"] = access.authorization
        if not access.compressed:
            headers["Accept-Encoding"] = "identity"
        headers.extend(access.impersonation)
        proxy = access.proxy if access.proxy is not None and access.proxy.scheme != "socks5" else None
        proxy_headers = None
        if proxy is not None and proxy.user:
            login = {"Proxy-Authorization": basic(proxy.user, proxy.password)}
            if access.tls is not None:
                proxy_headers = login
            else:
                headers.extend(login)
        session = sending.session = self._open_session(access.proxy)
        return await session.request(
            method,
            URL(access.host + target, encoded=True),
            data=body,
            headers=headers,
            ssl=access.tls if access.tls is not None else True,
            server_hostname=access.server_name,
            proxy=proxy.url if proxy is not None else None,
            proxy_headers=proxy_headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_DEADLINE, sock_read=read_timeout),
            trace_request_ctx=sending,
        )

    async def rejected(self, access: Access) -> None:
        """Say that the server did not accept an access; raises CannotConnect."""
        await self._credentials.rejected(access)

    def distrust(self, sending: Sending) -> None:
        """Use no connection again that is as old as the one over which something was sent."""
        session = sending.session
        if session is not None and session is self._session:
            self._session = None
            self._distrusted[session] = asyncio.create_task(self._close_later(session), name="close old connections")

    def hold(self, sending: Sending) -> None:
        """Take note that a stream of unknown length is open."""
        if sending.session is not None:
            self._streams[sending.session] += 1

    def let_go(self, sending: Sending) -> None:
        """Take note that it is closed."""
        if sending.session is not None:
            self._streams[sending.session] -= 1

    async def _close_later(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(DISTRUSTED_FOR)
        while self._streams[session] > 0:  # noqa: ASYNC110 - a followed log may end after hours
            await asyncio.sleep(DISTRUSTED_FOR)
        del self._streams[session], self._distrusted[session]
        await session.close()

    def _open_session(self, proxy: Proxy | None) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_mark_sent)
            self._session = aiohttp.ClientSession(
                connector=self._connector(proxy),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[trace],
                headers={"User-Agent": "koupleless-module-controller"},
            )
        return self._session

    def _connector(self, proxy: Proxy | None) -> aiohttp.TCPConnector:
        # The gate bounds the requests under way; each watch has one connection besides.
        bounds: dict[str, Any] = {"limit": 0, "keepalive_timeout": KEEP_ALIVE, "use_dns_cache": False}
        if proxy is not None and proxy.scheme == "socks5":
            return SocksConnector(proxy, self._resolver, **bounds)
        # Closing a session closes its resolver, but ours outlives it.
        return aiohttp.TCPConnector(resolver=_Shared(self._resolver), socket_factory=_socket, **bounds)


class SocksConnector(aiohttp.TCPConnector):
    """Connects through a SOCKS5 proxy, which looks up the names of hosts itself, as with Go."""

    def __init__(self, proxy: Proxy, resolver: StaleResolver, **kwargs: Any) -> None:
        super().__init__(resolver=_Unresolved(), **kwargs)
        self._proxy = proxy
        self._proxies = resolver

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: Any, req: Any, timeout: Any, client_error: Any = None, **kwargs: Any
    ) -> Any:
        host, port = addr_infos[0][4][:2]
        proxy = self._proxy
        try:
            found = await self._proxies.resolve(proxy.host, proxy.port, socket.AF_UNSPEC)
            through = SocksProxy(
                ProxyType.SOCKS5, found[0]["host"], proxy.port, proxy.user or None, proxy.password or None, rdns=True
            )
            connected = await through.connect(host, port, timeout=timeout.sock_connect)
            return await self._loop.create_connection(*args, **kwargs, sock=connected)
        except (ProxyError, OSError, TimeoutError) as error:
            problem = f"through the proxy {proxy.url}: {str(error) or type(error).__name__}"
            raise aiohttp.ClientConnectionError(problem) from error


class _Shared(aiohttp.abc.AbstractResolver):
    """A resolver that is closed by somebody else."""

    def __init__(self, resolver: StaleResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        return await self._resolver.resolve(host, port, family)

    async def close(self) -> None:
        """Leave it open."""


class _Unresolved(aiohttp.abc.AbstractResolver):
    """Leaves names as they are."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        return [{"hostname": host, "host": host, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """There is nothing to close."""


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket of which the kernel finds out by itself when the peer's machine is gone."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES.items():
        if hasattr(socket, option):  # macOS has other names
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


async def _mark_sent(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
    # Told just before the first byte goes out: what is not marked has not been sent.
    context.trace_request_ctx.sent = True
