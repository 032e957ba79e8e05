"""Connections to the API server: kept and used again, through a proxy where there is one.

A connection may be dead without anybody saying so: something between us and the server forgot it, or forwards nothing
any more. Who finds one dead calls ``Sending.distrust``; whatever is asked from then on goes over new connections.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
from multidict import CIMultiDict
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy
from yarl import URL

from controlplane.kube.credentials import Credentials
from controlplane.kube.kept import CONNECT_DEADLINE, KEEP_ALIVE, USER_AGENT, BrokeOff, Head, KeptConnections, Reply
from controlplane.kube.resolver import StaleResolver
from controlplane.kube.sockets import new_socket
from kubeaccess.access import Access, Proxy
from kubeaccess.authorization import basic

FAREWELL = 5.0
"""Seconds for what was written last to a connection that is given up gently."""

_METHODS = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request. verb is that of Kubernetes; label is the resource, with its subresource, for metrics.

    headers are those that it has besides its own.
    """

    verb: str
    label: str
    target: str
    body: bytes | None = None
    content_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()

    @property
    def writes(self) -> bool:
        """It changes something."""
        return self.verb in _METHODS

    def __str__(self) -> str:
        return f"{self.verb} {self.label}"


@dataclass(slots=True, eq=False)
class Pool:
    """Connections that are as old as each other, and how many requests and streams are on them."""

    session: aiohttp.ClientSession
    kept: KeptConnections
    users: int = 0
    trusted: bool = True
    _parting: set[asyncio.Transport] = field(default_factory=set)

    @property
    def in_use(self) -> bool:
        """Something is on them."""
        return bool(self.users or self._parting)

    def part(self, transport: asyncio.Transport) -> None:
        """End a connection once the peer has had some seconds to take what was written last."""
        self._parting.add(transport)
        asyncio.get_running_loop().call_later(FAREWELL, self._end, transport)

    def _end(self, transport: asyncio.Transport) -> None:
        transport.abort()
        self._parting.discard(transport)

    async def close(self) -> None:
        """End all idle connections, and what is on the others."""
        for transport in tuple(self._parting):
            self._end(transport)
        self.kept.close()
        await self.session.close()


@dataclass(slots=True)
class Sending:
    """How far a request has come, and over which connections."""

    sent: bool = False
    pool: Pool | None = None
    response: aiohttp.ClientResponse | None = None

    def let_go(self, *, gently: bool = False) -> None:
        """End it; unless the server has ended its response, its connection is given up.

        Without the farewells of TLS, which a dead peer never answers; gently, the peer has some seconds to take what
        was written last.
        """
        if self.pool is None:
            return
        self.pool.users -= 1
        if self.response is not None:
            connection = self.response.connection
            if connection is not None and connection.transport is not None:
                if gently:
                    self.pool.part(connection.transport)
                else:
                    connection.transport.abort()
            self.response.close()

    def begin(self) -> None:
        """Note that the first byte goes out now."""
        self.sent = True

    def distrust(self) -> None:
        """Use no connection again that is as old as the one over which it was sent."""
        if self.pool is not None:
            self.pool.trusted = False


class Connections:
    """Sends requests as whom the credentials say. To be closed."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._resolver = StaleResolver()
        self._pools: list[Pool] = []

    async def close(self) -> None:
        """Close all connections, and the credentials."""
        while self._pools:
            await self._pools.pop().close()
        await self._resolver.close()
        await self._credentials.close()

    async def ask(self, request: Request, sending: Sending) -> Reply:
        """Return the whole reply to a request, as send does with 401.

        Raises CannotConnect, aiohttp.ClientError, OSError.
        Reads are sent again where a kept connection turns out to be closed; a write may have been carried out.
        """
        access = await self._credentials.access()
        if access.proxy is not None or request.verb == "list":
            response = await self.send(request, sending)
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, await response.read())
        pool = sending.pool = await self._pool(None)
        pool.users += 1
        reply = await self._ask(pool, access, request, sending)
        if reply.status == HTTPStatus.UNAUTHORIZED:
            sending.sent = False
            await self._credentials.rejected(access)
            reply = await self._ask(pool, await self._credentials.access(), request, sending)
        return reply

    async def _ask(self, pool: Pool, access: Access, request: Request, sending: Sending) -> Reply:
        method = _METHODS.get(request.verb, "GET")

        def written(head: Head) -> bytes:
            return head.request(method, request.target, request.body, request.content_type)

        try:
            return await pool.kept.ask(access, written, sending.begin)
        except BrokeOff as error:
            if request.writes or not error.unread:
                raise
            return await pool.kept.ask(access, written, sending.begin)

    async def send(
        self, request: Request, sending: Sending, *, read_timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        """Return the response to a request, whose body is still to be read; let_go ends it.

        A request that 401 refused was not carried out: it is sent once more, with other credentials. read_timeout is
        the seconds between two reads. Raises CannotConnect, aiohttp.ClientError, OSError.
        """
        access = await self._credentials.access()
        pool = sending.pool = await self._pool(access.proxy)
        pool.users += 1

        async def attempt(access: Access) -> aiohttp.ClientResponse:
            return await pool.session.request(
                _METHODS.get(request.verb, "GET"),
                URL(access.host + request.target, encoded=True),
                data=request.body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_DEADLINE, sock_read=read_timeout),
                trace_request_ctx=sending,
                **_as(access, request),
            )

        sending.response = await attempt(access)
        if sending.response.status == 401:
            await sending.response.read()
            sending.sent = False
            await self._credentials.rejected(access)
            sending.response = await attempt(await self._credentials.access())
        return sending.response

    async def _pool(self, proxy: Proxy | None) -> Pool:
        if not self._pools or not self._pools[-1].trusted:
            # Idle connections of an old pool end by themselves, requests and streams on it go on.
            unused = [pool for pool in self._pools if not pool.in_use]
            fresh = Pool(_session(proxy, self._resolver), KeptConnections(self._resolver))
            self._pools = [pool for pool in self._pools if pool.in_use] + [fresh]
            for pool in unused:
                await pool.close()
        return self._pools[-1]


def _as(access: Access, request: Request) -> dict[str, Any]:
    """Return the arguments of a request that depend on the access with which it is made."""
    headers = CIMultiDict({"Content-Type": request.content_type} if request.body is not None else {})
    if access.authorization:
        headers["Authorization"] = access.authorization
    if not access.compressed:
        headers["Accept-Encoding"] = "identity"
    headers.extend(access.impersonation)
    headers.extend(request.headers)
    arguments: dict[str, Any] = {"headers": headers, "ssl": access.tls or True, "server_hostname": access.server_name}
    proxy = access.proxy
    if proxy is not None and proxy.scheme != "socks5":
        # The login not as proxy_auth, which errors of aiohttp show.
        login = {"Proxy-Authorization": basic(proxy.user, proxy.password)} if proxy.user else {}
        if access.tls is None:
            headers.extend(login)
        else:
            arguments["proxy_headers"] = login or None
        arguments["proxy"] = proxy.url
    return arguments


def _session(proxy: Proxy | None, resolver: StaleResolver) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_mark_sent)
    # The gate bounds the requests under way; each watch has one connection besides.
    options: dict[str, Any] = {"limit": 0, "keepalive_timeout": KEEP_ALIVE, "use_dns_cache": False}
    options |= {"resolver": resolver, "socket_factory": _socket}
    through = proxy if proxy is not None and proxy.scheme == "socks5" else None
    connector = aiohttp.TCPConnector(**options) if through is None else SocksConnector(through, **options)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[trace],
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
    )


class SocksConnector(aiohttp.TCPConnector):
    """Connects through a SOCKS5 proxy, which looks up the names of hosts itself, as with Go.

    aiohttp knows no SOCKS; aiohttp-socks looks up the proxy's name for each connection, and waits for it.
    """

    def __init__(self, proxy: Proxy, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._proxy = proxy

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[aiohttp.abc.ResolveResult]:
        return await super()._resolve_host(self._proxy.host, self._proxy.port, traces)

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: Any, req: Any, timeout: Any, client_error: Any = None, **kwargs: Any
    ) -> Any:
        proxy, address = self._proxy, addr_infos[0][4][0]
        through = SocksProxy(
            ProxyType.SOCKS5, address, proxy.port, proxy.user or None, proxy.password or None, rdns=True
        )
        try:
            connected = await through.connect(req.url.raw_host, req.port, timeout=timeout.sock_connect)
            return await self._loop.create_connection(*args, **kwargs, sock=connected)
        except (ProxyError, OSError, TimeoutError) as error:
            problem = f"through the proxy {proxy.url}: {str(error) or type(error).__name__}"
            raise aiohttp.ClientConnectionError(problem) from error


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    return new_socket(family, kind, protocol)


async def _mark_sent(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
    # Called just before the first byte goes out: what is not marked has not been sent.
    context.trace_request_ctx.sent = True
