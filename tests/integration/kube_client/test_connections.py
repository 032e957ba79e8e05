"""Connections through proxies, with impersonation, with credentials from files and from an identity provider."""

import asyncio
import base64
import json
import logging
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest
import structlog
import trustme
import uvloop
import yaml
from aiohttp import web

from controlplane.app.ports import Rejected, Transient
from controlplane.cluster.api import LEASES, NODES
from controlplane.kube.client import KubeApiServer
from kubeaccess.authorization import CannotConnect
from service import logs
from tests.servers.proxy import TestProxy

SERVER = "https://api.invalid"
"""A name that only proxies know."""


@dataclass
class Api:
    """A server with TLS that answers every request and keeps its headers; tokens: those that it accepts, if any."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)
    tokens: set[str] = field(default_factory=set)
    headers: list[list[tuple[str, str]]] = field(default_factory=list)
    port: int = 0

    def tls(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        return context

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls("api.invalid", "127.0.0.1"))
        await site.start()
        self.port = runner.addresses[0][1]
        self.authority.cert_pem.write_to_path(self.folder / "ca.crt")
        try:
            yield self
        finally:
            await runner.cleanup()

    def kubeconfig(self, cluster: Mapping[str, Any], user: Mapping[str, Any] | None = None) -> str:
        path = self.folder / "config"
        entry = {"server": f"{SERVER}:{self.port}", "certificate-authority": "ca.crt"} | dict(cluster)
        given = {
            "clusters": [{"name": "c", "cluster": entry}],
            "users": [{"name": "u", "user": dict(user or {"token": "t"})}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(given))
        return str(path)

    async def _answer(self, request: web.Request) -> web.Response:
        self.headers.append(list(request.headers.items()))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens and token not in self.tokens:
            return web.json_response({"message": "Unauthorized"}, status=401)
        return web.json_response({"metadata": {"name": "a"}})


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with Api(tmp_path).serving() as api:
        yield api


@asynccontextmanager
async def connected(kubeconfig: str) -> AsyncIterator[KubeApiServer]:
    client = await KubeApiServer.connect(kubeconfig)
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("user", ["", "user:pä ss@word"])
def test_requests_go_through_a_proxy(
    tmp_path: Path, scheme: str, user: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        # RFC 1929 does not say how a SOCKS proxy reads what is not ASCII.
        runner.run(_through_a_proxy(tmp_path, scheme, user.replace("ä", "a") if scheme == "socks5" else user))


async def _through_a_proxy(folder: Path, scheme: str, user: str) -> None:
    proxy = TestProxy(user=user)
    async with Api(folder).serving() as api:
        tls = api.tls("localhost") if scheme == "https" else None
        async with proxy.socks5() if scheme == "socks5" else proxy.http(tls):
            login = f"{quote(user, safe=':')}@" if user else ""
            async with connected(api.kubeconfig({"proxy-url": f"{scheme}://{login}localhost:{proxy.port}"})) as client:
                for _ in range(3):
                    await client.get(NODES, "a")
    assert proxy.asked == [f"api.invalid:{api.port}"], "one connection, and the proxy looks up the name"
    assert dict(api.headers[0])["Authorization"] == "Bearer t"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_the_name_in_the_certificate_counts_behind_a_proxy_too(api: Api, scheme: str) -> None:
    proxy = TestProxy()
    async with proxy.socks5() if scheme == "socks5" else proxy.http():
        through = {"server": f"https://other.invalid:{api.port}", "proxy-url": f"{scheme}://localhost:{proxy.port}"}
        async with connected(api.kubeconfig(through)) as client:
            with pytest.raises(Transient, match="certificate"):
                await client.get(NODES, "a")
        async with connected(api.kubeconfig(through | {"tls-server-name": "api.invalid"})) as client:
            await client.get(NODES, "a")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_no_secret_of_a_proxy_that_refuses_is_written(
    api: Api, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.DEBUG, program="test")
    proxy = TestProxy(forbids=True)
    try:
        async with proxy.socks5() if scheme == "socks5" else proxy.http():
            through = f"{scheme}://somebody:hush-hush@localhost:{proxy.port}"
            async with connected(api.kubeconfig({"proxy-url": through})) as client:
                with pytest.raises(Transient) as raised:
                    await client.get(NODES, "a")
                structlog.get_logger("x").error("failed", error=str(raised.value), cause=raised.value.__cause__)
                structlog.get_logger("x").error("failed", exc_info=raised.value)
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    written = capsys.readouterr().err + str(raised.value) + repr(raised.value.__cause__)
    assert f"localhost:{proxy.port}" in written
    assert "hush" not in written
    assert "somebody" not in written


async def test_a_proxy_that_is_not_there_is_named(api: Api) -> None:
    for scheme in ("http", "socks5"):
        async with connected(api.kubeconfig({"proxy-url": f"{scheme}://127.0.0.1:1"})) as client:
            with pytest.raises(Transient, match=r"127\.0\.0\.1:1"):
                await client.create(LEASES, {}, "ns")


async def test_requests_impersonate_the_user_of_the_kubeconfig(api: Api) -> None:
    user = {
        "token": "t",
        "as": "jane",
        "as-uid": "7",
        "as-groups": ["a", "b"],
        "as-user-extra": {"acme.com/x": ["1", "2"]},
    }
    async with connected(api.kubeconfig({"server": f"https://127.0.0.1:{api.port}"}, user)) as client:
        await client.get(NODES, "a")
    sent = [(name, value) for name, value in api.headers[0] if name.lower().startswith("impersonate")]
    assert sent == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-acme.com%2Fx", "1"),
        ("Impersonate-Extra-acme.com%2Fx", "2"),
    ]


async def test_compression_can_be_turned_off(api: Api) -> None:
    direct: dict[str, Any] = {"server": f"https://127.0.0.1:{api.port}"}
    more: dict[str, Any]
    for more, expected in (({}, "gzip"), ({"disable-compression": True}, "identity")):
        async with connected(api.kubeconfig(direct | more)) as client:
            await client.list(NODES)
            assert expected in dict(api.headers[-1])["Accept-Encoding"]
            # One object is never long enough.
            await client.get(NODES, "a")
            assert dict(api.headers[-1])["Accept-Encoding"] == "identity"


async def test_a_refused_token_is_read_again_and_the_request_made_again(api: Api, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    api.tokens = {"old"}
    user = {"tokenFile": "token"}
    async with connected(api.kubeconfig({"server": f"https://127.0.0.1:{api.port}"}, user)) as client:
        await client.get(NODES, "a")
        api.tokens = {"new"}
        token.write_text("new")
        assert await client.create(NODES, {}) == {"metadata": {"name": "a"}}
        api.tokens = {"none"}
        with pytest.raises(Rejected, match="HTTP 401"):
            await client.get(NODES, "a")


async def test_a_plugin_that_fails_at_the_start_stops_it(api: Api) -> None:
    command = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "/bin/false"}
    with pytest.raises(CannotConnect, match="exec plugin /bin/false: ended with exit code 1"):
        await KubeApiServer.connect(api.kubeconfig({}, {"exec": command}))
    assert api.headers == [], "nothing was asked as anonymous"


async def test_a_plugin_that_takes_seconds_delays_no_request(api: Api, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"""#!{sys.executable}
import datetime, json, pathlib, time
runs = pathlib.Path({str(tmp_path / "runs")!r})
number = len(runs.read_text()) if runs.exists() else 0
if number:
    time.sleep(2)
runs.write_text("x" * (number + 1))
ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=10)
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
    "status": {{"token": f"t{{number}}", "expirationTimestamp": ends.isoformat()}}}}))
"""
    )
    plugin.chmod(0o755)
    command = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": str(plugin)}
    longest = 0.0
    async with connected(api.kubeconfig({"server": f"https://127.0.0.1:{api.port}"}, {"exec": command})) as client:
        until = time.monotonic() + 14.0
        while time.monotonic() < until:
            began = time.monotonic()
            await client.get(NODES, "a")
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.05)
    tokens = {dict(headers)["Authorization"] for headers in api.headers}
    assert tokens >= {"Bearer t0", "Bearer t1"}
    assert longest < 1.5, "requests went on while the plugin took its 2 s"


@pytest.mark.parametrize("busy", [0.0, 0.05], ids=["it-has-started", "it-starts"])
async def test_closing_kills_a_plugin_that_hangs(api: Api, tmp_path: Path, busy: float) -> None:
    """Also one that has begun to run before its start is known here, as on a busy machine."""
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Never",
        "command": "/bin/sh",
        "args": ["-c", f"sleep 987 & echo $! > {tmp_path / 'pid'}; wait"],
    }
    starting = asyncio.create_task(KubeApiServer.connect(api.kubeconfig({}, {"exec": command})))
    async with asyncio.timeout(10):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(busy)  # noqa: ASYNC251 - nothing else goes on meanwhile
            await asyncio.sleep(0.0 if busy else 0.05)
    starting.cancel()
    await asyncio.wait({starting})
    pid = (tmp_path / "pid").read_text().strip()
    async with asyncio.timeout(5):
        while await asyncio.to_thread(_state, pid) not in ("", "Z"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _state(pid: str) -> str:
    return subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout.strip()[
        :1
    ]


@dataclass
class Issuer:
    """An OpenID Connect provider with TLS."""

    api: Api
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    answer: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discover)
        app.router.add_post("/token", self._token)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.api.tls("localhost"))
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _discover(self, _request: web.Request) -> web.Response:
        return web.json_response({"token_endpoint": f"https://localhost:{self.port}/token"})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked.append((request.headers["Authorization"], str(form["refresh_token"])))
        return web.json_response(self.answer)


def jwt(ends_in: float, name: str) -> str:
    claims = json.dumps({"exp": time.time() + ends_in, "name": name}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


async def test_an_id_token_is_renewed_with_the_certificate_of_the_issuer_checked(api: Api) -> None:
    async with Issuer(api).serving() as issuer:
        fresh = jwt(3600, "fresh")
        issuer.answer = {"id_token": fresh, "refresh_token": "second"}
        config = {
            "idp-issuer-url": f"https://localhost:{issuer.port}",
            "client-id": "id",
            "client-secret": "hush",
            "id-token": jwt(-5, "old"),
            "refresh-token": "first",
        }
        direct: dict[str, Any] = {"server": f"https://127.0.0.1:{api.port}"}
        with pytest.raises(CannotConnect, match="certificate verify failed") as raised:
            await KubeApiServer.connect(api.kubeconfig({}, {"auth-provider": {"name": "oidc", "config": config}}))
        assert "hush" not in str(raised.value)
        assert issuer.asked == []
        config["idp-certificate-authority"] = "ca.crt"
        user = {"auth-provider": {"name": "oidc", "config": config}}
        async with connected(api.kubeconfig(direct, user)) as client:
            await client.get(NODES, "a")
            assert dict(api.headers[-1])["Authorization"] == f"Bearer {fresh}"
            api.tokens = {newest := jwt(3600, "newest")}
            issuer.answer = {"id_token": newest}
            await client.get(NODES, "a")
        assert [token for _, token in issuer.asked] == ["first", "second"]
        assert issuer.asked[0][0] == "Basic " + base64.b64encode(b"id:hush").decode()
