"""The kubelet API with real TLS and sockets serves logs whatever hostile or slow clients do.

The API server is in memory: it knows one token, and one base's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme
from prometheus_client import REGISTRY

from controlplane.app.clock import SystemClock
from controlplane.app.ports import ClusterError, Rejected, Transient
from controlplane.cluster import reading
from controlplane.cluster.api import NODES, PODS, Json, ObjectList, Resource
from controlplane.cluster.informer import ObjectInformer
from controlplane.kubelet import logs as logs_module
from controlplane.kubelet import server as server_module
from controlplane.kubelet.access import Reviewer
from controlplane.kubelet.basepods import BasePods
from controlplane.kubelet.certificates import Files
from controlplane.kubelet.logs import ModuleLogs
from controlplane.kubelet.server import KubeletServer
from service.listening import CannotListen
from tests.unit.kubelet.test_access import Reviews

PATH = "/containerLogs/modules/biz1/biz1"
MODULE = "virtual-kubelet.koupleless.io/component"
PIECE = b"x" * 65_536


class Api(Reviews):
    """Selects Pods by name and address besides."""

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> ObjectList:
        listed = await super().list(resource, namespace=namespace, label_selector=label_selector)
        field, _, value = field_selector.partition("=")
        part, _, name = field.partition(".")
        return replace(listed, items=tuple(obj for obj in listed.items if not field or obj[part].get(name) == value))


class Source:
    """A log: its pieces, then the last one repeated without end if endless, then an error if there is one."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = [b"one\n", b"two\n"]
        self.endless = False
        self.quiet = False
        self.refuses: ClusterError | None = None
        self.breaks: ClusterError | None = None
        self.asked: list[dict[str, str]] = []
        self.open = 0
        self.given = 0

    @asynccontextmanager
    async def pod_log(
        self, namespace: str, name: str, options: Mapping[str, str], *, idle: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        assert (namespace, name) == ("bases", "shop-0")
        assert (idle is None) is ("follow" in options)
        self.asked.append(dict(options))
        if self.refuses is not None:
            raise self.refuses
        self.open += 1
        try:
            yield self._read()
        finally:
            self.open -= 1

    async def _read(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        while self.endless:
            self.given += len(PIECE)
            yield PIECE
            await asyncio.sleep(0)
        if self.quiet:
            await asyncio.sleep(3600)
        if self.breaks is not None:
            raise self.breaks


class Authority:
    """A CA, and files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca = folder, trustme.CA()
        folder.mkdir()
        self.ca.cert_pem.write_to_path(str(folder / "ca.crt"))
        self.renew()

    @property
    def files(self) -> Files:
        return Files(*(str(self.folder / name) for name in ("tls.crt", "tls.key", "ca.crt")))

    def spoil(self, *, remove: bool = False) -> None:
        """Make the certificate's file useless, or take it away."""
        path = Path(self.files.crt)
        path.write_text("rubbish")
        if remove:
            path.unlink()

    def renew(self) -> None:
        leaf = self.ca.issue_cert("127.0.0.1", "::1")
        leaf.cert_chain_pems[0].write_to_path(self.files.crt)
        leaf.private_key_pem.write_to_path(self.files.key)

    def client(self, *, user: str = "", of: trustme.CA | None = None) -> ssl.SSLContext:
        """Return what a client needs that trusts this CA and shows a certificate of it, or of another one."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if user:
            (of or self.ca).issue_cert("client.test", common_name=user).configure_cert(context)
        return context


@dataclass
class Scene:
    server: KubeletServer
    source: Source
    api: Reviews
    authority: Authority

    async def connect(
        self, tls: ssl.SSLContext | None = None, *, to: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = tls or self.authority.client(user="ann")
        return await asyncio.open_connection(to, self.server.port, ssl=tls, limit=1 << 20)

    async def send(self, head: bytes, tls: ssl.SSLContext | None = None) -> tuple[int, bytes, bytes]:
        """Return status, head and body of what is answered until the server ends the connection."""
        reader, writer = await self.connect(tls)
        try:
            writer.write(head)
            async with asyncio.timeout(20):
                answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        answer_head, _, body = answer.partition(b"\r\n\r\n")
        return int(answer_head.split()[1]), answer_head, body

    async def get(
        self, path: str = PATH, *, tls: ssl.SSLContext | None = None, token: str = ""
    ) -> tuple[int, bytes, bytes]:
        return await self.send(request(path, token=token), tls)


def request(path: str = PATH, *, token: str = "", more: str = "", method: str = "GET") -> bytes:
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{bearer}{more}\r\n".encode("latin-1")


def pod_of(namespace: str, name: str, node: str, container: str, ip: str, **labels: str) -> Json:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": container}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


@asynccontextmanager
async def running(
    folder: Path, *, host: str = "127.0.0.1", most_connections: int = server_module.MOST_CONNECTIONS
) -> AsyncIterator[Scene]:
    api, source, authority = Api(("ann", "proxy", "vnode.b1.dev")), Source(), Authority(folder / "pki")
    annotations = {"base.koupleless.io/address": "10.0.0.7:1238"}
    labels = {MODULE: "vnode", "base.koupleless.io/host-name": "shop-0"}
    api.put(NODES, {"metadata": {"name": "vnode.b1.dev", "labels": labels, "annotations": annotations}})
    api.put(PODS, pod_of("modules", "biz1", "vnode.b1.dev", "biz1", "10.0.0.7", **{MODULE: "module"}))
    api.put(PODS, pod_of("bases", "shop-0", "worker", "base", "10.0.0.7"))
    clock = SystemClock()
    pods = ObjectInformer(api, PODS, reading.pod, selector=f"{MODULE}=module", clock=clock)
    nodes = ObjectInformer(api, NODES, reading.node, selector=f"{MODULE}=vnode", clock=clock)
    reviewer = Reviewer(api, clock)
    logs = ModuleLogs(
        pods=pods, nodes=nodes, reviewer=reviewer, base_pods=BasePods(api, namespace="default"), source=source
    )
    server = KubeletServer(
        host=host,
        port=0,
        files=authority.files,
        reviewer=reviewer,
        logs=logs,
        look_every=0.1,
        most_connections=most_connections,
    )
    await server.start()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (pods, nodes, server)]
        while not (pods.synced and nodes.synced):  # noqa: ASYNC110 - informers have no event for it
            await asyncio.sleep(0.01)
        yield Scene(server, source, api, authority)
        for task in tasks:
            task.cancel()
    await server.stop()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with running(tmp_path) as scene:
        yield scene


def count(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


def refused(reason: str) -> float:
    return count("koupleless_kubelet_refused_total", reason=reason)


async def soon(what: str, look: object, within: float = 10.0) -> None:
    assert callable(look)
    deadline = asyncio.get_running_loop().time() + within
    while not look():
        assert asyncio.get_running_loop().time() < deadline, f"not soon: {what}"
        await asyncio.sleep(0.02)


class TestAnswers:
    async def test_a_log_is_read_with_its_options(self, scene: Scene) -> None:
        status, head, body = await scene.get(f"{PATH}?tailLines=0&follow=true")
        assert status == 200
        assert b"text/plain" in head
        assert b"one\n" in body
        assert body.endswith(b"0\r\n\r\n")
        assert scene.source.asked == [{"container": "base", "follow": "true", "tailLines": "0"}]

    async def test_a_token_is_enough(self, scene: Scene) -> None:
        tls = scene.authority.client()
        assert (await scene.get(tls=tls, token="right"))[0] == 200
        assert (await scene.get(tls=tls, token="wrong"))[0] == 401
        status, head, body = await scene.get(tls=tls)
        assert status == 401
        assert b"WWW-Authenticate: Bearer" in head
        assert body == b"a client certificate or a bearer token is needed\n"

    async def test_healthz_is_answered(self, scene: Scene) -> None:
        assert (await scene.get("/healthz"))[0] == 200

    @pytest.mark.parametrize(
        ("method", "path", "status", "reason"),
        [
            ("GET", "/", 404, "path"),
            ("GET", "/containerLogs", 404, "path"),
            ("GET", "/containerLogs/modules/biz1", 404, "path"),
            ("GET", "/containerLogs/modules//biz1", 404, "path"),
            ("GET", "/containerLogs/modules/biz1/biz1/x", 404, "path"),
            ("GET", "/containerLogs/../bases/shop-0/base", 404, "path"),
            ("POST", PATH, 405, "method"),
            ("GET", f"{PATH}?tailLines=-1", 400, "options"),
            ("GET", "/containerLogs/modules/biz1/other", 404, "no_container"),
            ("POST", "/exec/modules/biz1/biz1?command=ls", 501, "not_offered"),
            ("POST", "/portForward/modules/biz1", 501, "not_offered"),
            ("GET", "/metrics/cadvisor", 501, "not_offered"),
            ("GET", "/stats/summary", 501, "not_offered"),
            ("GET", "/pods", 501, "not_offered"),
        ],
    )
    async def test_other_requests_are_refused_with_a_message(
        self, scene: Scene, method: str, path: str, status: int, reason: str
    ) -> None:
        before = refused(reason)
        answered, head, body = await scene.send(request(path, method=method))
        assert answered == status
        assert body.strip()
        assert b"Connection: close" in head
        assert refused(reason) == before + 1

    @pytest.mark.parametrize("path", ["/containerLogs/bases/shop-0/base", "/containerLogs/none/none/none"])
    async def test_only_authorized_clients_learn_that_a_module_is_not_there(self, scene: Scene, path: str) -> None:
        assert (await scene.get(path))[0] == 403
        scene.api.allowed.add(("bob", "log", ""))
        assert (await scene.get(path, tls=scene.authority.client(user="bob")))[0] == 404

    async def test_the_sources_refusal_is_passed_on(self, scene: Scene) -> None:
        scene.source.refuses = Rejected("container base is waiting to start (HTTP 400)")
        status, _, body = await scene.get()
        assert status == 400
        assert b"waiting to start" in body
        scene.source.refuses = Transient("dial tcp: connection refused")
        assert (await scene.get())[0] == 500

    async def test_an_api_server_that_hangs_keeps_nobody_waiting_for_long(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs_module, "LOOK_UP_WITHIN", 0.2)
        scene.api.answers_after = 3600.0
        status, _, body = await scene.get()
        assert status == 500
        assert b"not found out within 0.2 s" in body
        scene.api.answers_after = 0.0
        scene.api.error = Transient("the API server is away")
        assert (await scene.get())[0] == 500
        scene.api.error = None
        assert (await scene.get())[0] == 200

    async def test_a_log_that_breaks_off_does_not_look_whole(self, scene: Scene) -> None:
        before = count("koupleless_kubelet_logs_total", outcome="broken")
        scene.source.breaks = Transient("the log broke off")
        reader, writer = await scene.connect()
        writer.write(request())
        received = b""
        with contextlib.suppress(OSError, ssl.SSLError):
            received = await reader.read()
        assert not received.endswith(b"0\r\n\r\n")
        assert count("koupleless_kubelet_logs_total", outcome="broken") == before + 1
        writer.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_both_families_have_the_same_places(tmp_path: Path) -> None:
    async with running(tmp_path, host="", most_connections=1) as scene:
        for address in ("127.0.0.1", "::1", "127.0.0.1", "::1"):
            reader, writer = await scene.connect(to=address)
            writer.write(request())
            async with asyncio.timeout(20):
                assert (await reader.read()).startswith(b"HTTP/1.1 200"), address
            writer.close()


async def test_a_port_that_is_taken_stops_the_start(scene: Scene) -> None:
    other = KubeletServer(
        host="127.0.0.1",
        port=scene.server.port,
        files=scene.authority.files,
        reviewer=Reviewer(scene.api, SystemClock()),
        logs=scene.server.logs,
    )
    with pytest.raises(CannotListen, match=f"KUBELET_PROXY_PORT={scene.server.port} on 127.0.0.1: cannot listen"):
        await other.start()
    await other.stop()


class TestHostile:
    async def test_a_certificate_of_another_ca_does_not_get_in(self, scene: Scene) -> None:
        before = refused("foreign_certificate")
        foreign = scene.authority.client(user="ann", of=trustme.CA())
        with pytest.raises((OSError, ssl.SSLError, IndexError)):
            await scene.get(tls=foreign)
        await soon("it is counted", lambda: refused("foreign_certificate") == before + 1)
        assert (await scene.get())[0] == 200

    async def test_clients_without_a_tls_handshake_are_disconnected(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "HANDSHAKE_WITHIN", 0.2)
        before = refused("handshake")
        for said in (request(), b"", b"\x16\x03\x01" + b"\xff" * 500):
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.server.port)
            writer.write(said)
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    assert b"HTTP" not in await reader.read()
            writer.close()
        await soon("they are counted", lambda: refused("handshake") == before + 3)
        assert (await scene.get())[0] == 200

    @pytest.mark.parametrize(
        "head",
        [
            request("/containerLogs/" + "a" * 100_000),
            request(f"{PATH}?x=" + "a" * 100_000),
            request(more="".join(f"H{n}: x\r\n" for n in range(1000))),
            request(more=f"Authorization: Bearer {'a' * 100_000}\r\n"),
            b"rubbish\r\n\r\n",
            b"GET /containerLogs/\xff\xfe/\x00/a HTTP/1.1\r\nHost: x\r\n\r\n",
            request("/containerLogs/%FF%FE/%00/%0A"),
            b"\x00" * 10_000,
            request("*", method="OPTIONS"),
            request("x:443", method="CONNECT"),
            request("http://other/containerLogs"),
            request("//"),
            request("\\"),
        ],
        ids=[
            *("path", "query", "headers", "token", "rubbish", "bytes", "escapes", "zeros"),
            *("star", "connect", "absolute", "slashes", "backslash"),
        ],
    )
    async def test_heads_that_cannot_be_are_refused(self, scene: Scene, head: bytes) -> None:
        try:
            status = (await scene.send(head))[0]
        except (OSError, IndexError):
            status = 0
        assert status in (0, 400, 403, 404, 405), status
        assert not scene.source.asked
        assert (await scene.get())[0] == 200

    async def test_a_body_that_nobody_wants_is_not_read(self, scene: Scene) -> None:
        status = (await scene.send(request(more="Content-Length: 1000000000\r\n") + b"x" * 1000))[0]
        assert status == 200

    async def test_a_client_that_is_slow_to_ask_is_disconnected(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "HEAD_WITHIN", 0.3)
        reader, writer = await scene.connect()
        writer.write(b"GET /containerLogs/")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()

    async def test_more_connections_than_places_wait(self, tmp_path: Path) -> None:
        async with running(tmp_path, most_connections=2) as scene:
            before = count("koupleless_kubelet_connections")
            held = [await scene.connect() for _ in range(2)]
            third = asyncio.create_task(scene.get())
            await asyncio.sleep(0.5)
            assert not third.done()
            assert count("koupleless_kubelet_connections") == before + 2
            held[0][1].close()
            assert (await third)[0] == 200
            held[1][1].close()
            await soon("places", lambda: count("koupleless_kubelet_connections") == before)
            # Handshakes that fail or never begin release their place soon.
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", scene.server.port)
                writer.close()
            assert (await scene.get())[0] == 200

    async def test_too_many_logs_are_refused(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs_module, "MOST_STREAMS", 1)
        scene.source.quiet = True
        reader, writer = await scene.connect()
        writer.write(request(f"{PATH}?follow=true"))
        await reader.readuntil(b"two\n")
        status, head, _ = await scene.get()
        assert status == 429
        assert b"Retry-After" in head
        writer.close()
        scene.source.quiet = False
        await soon("the free place", lambda: scene.source.open == 0)
        assert (await scene.get())[0] == 200

    async def test_readers_that_do_not_read_hold_up_only_themselves(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scene.source.endless = True
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stuck = [await scene.connect() for _ in range(20)]
        for reader, writer in stuck:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a real transport can
            assert isinstance(reader, asyncio.StreamReader)
            writer.write(request(f"{PATH}?follow=true"))
        await soon("all of them", lambda: scene.source.open == 20)
        given = -1
        while scene.source.given != given:
            given = scene.source.given
            await asyncio.sleep(0.5)
        # The content of the kernel's and our buffers of 20 connections.
        assert given < 20 * (16 << 20)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
        scene.source.endless = False
        assert (await scene.get())[0] == 200
        for _, writer in stuck:
            writer.transport.abort()
        await soon("their end", lambda: scene.source.open == 0)

    async def test_a_reader_that_takes_nothing_is_disconnected(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs_module, "TAKEN_WITHIN", 0.5)
        before = count("koupleless_kubelet_logs_total", outcome="not_taken")
        scene.source.endless = True
        _, writer = await scene.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a real transport can
        writer.write(request())
        await soon("the cut", lambda: count("koupleless_kubelet_logs_total", outcome="not_taken") == before + 1)
        await soon("the end", lambda: scene.source.open == 0)
        writer.transport.abort()

    async def test_a_reader_that_leaves_ends_its_log(self, scene: Scene) -> None:
        before = count("koupleless_kubelet_logs_total", outcome="left")
        scene.source.quiet = True
        reader, writer = await scene.connect()
        writer.write(request(f"{PATH}?follow=true"))
        await reader.readuntil(b"two\n")
        assert scene.source.open == 1
        writer.transport.abort()
        await soon("the end", lambda: scene.source.open == 0)
        assert count("koupleless_kubelet_logs_total", outcome="left") == before + 1


class TestCertificates:
    async def serial(self, scene: Scene) -> bytes:
        _, writer = await scene.connect()
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificate

    async def test_changed_files_are_used_and_streams_go_on(self, scene: Scene) -> None:
        taken = count("koupleless_kubelet_certificate_reloads_total", outcome="taken")
        scene.source.quiet = True
        reader, writer = await scene.connect()
        writer.write(request(f"{PATH}?follow=true"))
        await reader.readuntil(b"two\n")
        before = await self.serial(scene)
        scene.authority.renew()
        await soon("new files", lambda: count("koupleless_kubelet_certificate_reloads_total", outcome="taken") > taken)
        assert await self.serial(scene) != before
        assert scene.source.open == 1
        writer.close()

    async def test_files_that_cannot_be_used_change_nothing_until_they_can(self, scene: Scene) -> None:
        unusable = count("koupleless_kubelet_certificate_reloads_total", outcome="unusable")
        before = await self.serial(scene)
        scene.authority.spoil()
        await soon(
            "it is counted",
            lambda: count("koupleless_kubelet_certificate_reloads_total", outcome="unusable") > unusable,
        )
        assert await self.serial(scene) == before
        scene.authority.spoil(remove=True)
        await asyncio.sleep(0.3)
        assert await self.serial(scene) == before
        scene.authority.renew()
        deadline = asyncio.get_running_loop().time() + 10
        while await self.serial(scene) == before:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)

    async def test_clients_of_a_new_ca_get_in_and_those_of_the_old_do_not(self, scene: Scene) -> None:
        taken = count("koupleless_kubelet_certificate_reloads_total", outcome="taken")
        other = trustme.CA()
        other.cert_pem.write_to_path(scene.authority.files.client_ca)
        await soon("new CA", lambda: count("koupleless_kubelet_certificate_reloads_total", outcome="taken") > taken)
        assert (await scene.get(tls=scene.authority.client(user="ann", of=other)))[0] == 200
        with pytest.raises((OSError, ssl.SSLError, IndexError)):
            await scene.get()
