"""The kubelet API with real TLS and sockets serves logs whatever hostile or slow clients do.

The API server is in memory: it knows one token, and one base's log.
"""

import asyncio
import contextlib
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from controlplane.access import reviews
from controlplane.access.reviews import Reviewer
from controlplane.app.ports import Rejected, Transient
from controlplane.kubelet import lookup
from controlplane.kubelet.access import KubeletAccess
from controlplane.kubelet.server import BOUNDS, KubeletServer
from controlplane.kubelet.shown import from_files
from service.listening import CannotListen
from tests.integration.kubelet.scene import PATH, Scene, count, refused, request, running, soon


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
            ("GET", "/containerLogs/modules/biz1/other", 404, "no_container"),
            ("POST", "/exec/modules/biz1/biz1?command=ls", 501, "not_offered"),
            ("POST", "/portForward/modules/biz1", 501, "not_offered"),
            ("GET", "/logs/", 501, "not_offered"),
            ("GET", "/nodes/vnode.b1.dev/exec/modules/biz1/biz1", 404, "path"),
            ("POST", "/nodes/vnode.b1.dev/metrics/resource", 405, "method"),
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
        scene.api.allowed.add(("bob", "nodes/log", ""))
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
        monkeypatch.setattr(lookup, "WITHIN", 0.2)
        monkeypatch.setattr(reviews, "WITHIN", 0.3)
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
    async with running(tmp_path, host="", bounds=replace(BOUNDS, connections=1, of_peer=1)) as scene:
        for address in ("127.0.0.1", "::1", "127.0.0.1", "::1"):
            reader, writer = await scene.connect(to=address)
            writer.write(request())
            async with asyncio.timeout(20):
                assert (await reader.read()).startswith(b"HTTP/1.1 200"), address
            writer.close()
            await soon("its place", lambda: count("koupleless_listener_connections", listener="kubelet") == 0)


async def test_a_port_that_is_taken_stops_the_start(scene: Scene) -> None:
    other = KubeletServer(
        host="127.0.0.1",
        port=scene.server.port,
        shown=from_files(scene.authority.files),
        access=KubeletAccess(Reviewer(scene.api)),
    )
    with pytest.raises(CannotListen, match=f"KUBELET_PROXY_PORT={scene.server.port} on 127.0.0.1: cannot listen"):
        await other.start()
    await other.stop()


class TestCertificates:
    async def serial(self, scene: Scene) -> bytes:
        _, writer = await scene.connect()
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificate

    async def test_changed_files_are_used_and_streams_go_on(self, scene: Scene) -> None:
        taken = count("koupleless_file_reloads_total", files="kubelet", outcome="taken")
        scene.source.quiet = True
        reader, writer = await scene.connect()
        writer.write(request(f"{PATH}?follow=true"))
        await reader.readuntil(b"two\n")
        before = await self.serial(scene)
        scene.authority.renew()
        await soon(
            "new files", lambda: count("koupleless_file_reloads_total", files="kubelet", outcome="taken") > taken
        )
        assert await self.serial(scene) != before
        assert scene.source.open == 1
        writer.close()

    async def test_files_that_cannot_be_used_change_nothing_until_they_can(self, scene: Scene) -> None:
        unusable = count("koupleless_file_reloads_total", files="kubelet", outcome="unusable")
        before = await self.serial(scene)
        scene.authority.spoil()
        await soon(
            "it is counted",
            lambda: count("koupleless_file_reloads_total", files="kubelet", outcome="unusable") > unusable,
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
        taken = count("koupleless_file_reloads_total", files="kubelet", outcome="taken")
        other = trustme.CA()
        other.cert_pem.write_to_path(str(scene.authority.folder / "ca.crt"))
        await soon("new CA", lambda: count("koupleless_file_reloads_total", files="kubelet", outcome="taken") > taken)
        assert (await scene.get(tls=scene.authority.client(user="ann", of=other)))[0] == 200
        with pytest.raises((OSError, ssl.SSLError, IndexError)):
            await scene.get()
