"""Connections to the API server: kept and used again, through a proxy where there is one.

A connection may be dead without anybody saying so: something between us and the server forgot it, or forwards nothing
any more. Who finds one dead calls ``Sending.distrust``; whatever is asked from then on goes over new connections.
"""

import socket
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDict
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy
from yarl import URL

from controlplane.kube.credentials import Credentials
from controlplane.kube.resolver import StaleResolver
from kubeaccess.access import Access, Proxy
from kubeaccess.authorization import basic

CONNECT_DEADLINE = 5.0
KEEP_ALIVE = 60.0
"""Seconds that an idle connection is kept; API servers close theirs after 90."""
PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
"""Seconds of silence until the kernel asks whether the peer is there, between questions, and how often it asks."""

_METHODS = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request. verb is that of Kubernetes; label is the resource, with its subresource, for metrics."""

    verb: str
    label: str
    target: str
    body: bytes | None = None
    content_type: str = "application/json"

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
    users: int = 0
    trusted: bool = True


@dataclass(slots=True)
class Sending:
    """How far a request has come, and over which connections."""

    sent: bool = False
    pool: Pool | None = None
    response: aiohttp.ClientResponse | None = None

    def let_go(self) -> None:
        """End it; unless the server has ended its response, its connection is given up.

        Without the farewells of TLS, which a dead peer never answers.
        """
        if self.pool is not None:
            self.pool.users -= 1
        if self.response is not None:
            if self.response.connection is not None and self.response.connection.transport is not None:
                self.response.connection.transport.abort()
            self.response.close()

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
            await self._pools.pop().session.close()
        await self._resolver.close()
        await self._credentials.close()

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
            unused = [pool for pool in self._pools if not pool.users]
            self._pools = [pool for pool in self._pools if pool.users] + [Pool(_session(proxy, self._resolver))]
            for pool in unused:
                await pool.session.close()
        return self._pools[-1]


def _as(access: Access, request: Request) -> dict[str, Any]:
    """Return the arguments of a request that depend on the access with which it is made."""
    headers = CIMultiDict({"Content-Type": request.content_type} if request.body is not None else {})
    if access.authorization:
        headers["Authorization"] = access.authorization
    if not access.compressed:
        headers["Accept-Encoding"] = "identity"
    headers.extend(access.impersonation)
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
        headers={"User-Agent": "koupleless-module-controller", "Accept": "application/json"},
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
    """Return a socket of which the kernel finds out by itself when the peer's machine is gone."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES.items():
        if hasattr(socket, option):  # macOS has other names
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


async def _mark_sent(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
    # Called just before the first byte goes out: what is not marked has not been sent.
    context.trace_request_ctx.sent = True
