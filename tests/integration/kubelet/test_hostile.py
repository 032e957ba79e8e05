"""Clients of the kubelet API that are slow, many or broken cost nobody else anything."""

import asyncio
import contextlib
import resource
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from controlplane.kubelet import logs as logs_module
from controlplane.kubelet.server import BOUNDS
from tests.integration.kubelet.scene import (
    PATH,
    Scene,
    count,
    refused,
    request,
    running,
    soon,
)


class TestHostile:
    async def test_a_certificate_of_another_ca_does_not_get_in(self, scene: Scene) -> None:
        before = refused("foreign_certificate")
        foreign = scene.authority.client(user="ann", of=trustme.CA())
        with pytest.raises((OSError, ssl.SSLError, IndexError)):
            await scene.get(tls=foreign)
        await soon("it is counted", lambda: refused("foreign_certificate") == before + 1)
        assert (await scene.get())[0] == 200

    async def test_clients_without_a_tls_handshake_are_disconnected(self, tmp_path: Path) -> None:
        async with running(tmp_path, bounds=replace(BOUNDS, head=0.2)) as scene:
            await self.no_handshakes(scene)

    async def no_handshakes(self, scene: Scene) -> None:
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

    async def test_a_client_that_is_slow_to_ask_is_disconnected(self, tmp_path: Path) -> None:
        async with running(tmp_path, bounds=replace(BOUNDS, head=0.3)) as scene:
            reader, writer = await scene.connect()
            writer.write(b"GET /containerLogs/")
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()

    async def test_idle_connections_make_room_for_new_ones(self, tmp_path: Path) -> None:
        async with running(tmp_path, bounds=replace(BOUNDS, connections=2, of_peer=2)) as scene:
            before = refused("connections")
            held = [await scene.connect() for _ in range(2)]
            await soon("places", lambda: count("koupleless_listener_connections", listener="kubelet") == 2)
            assert (await scene.get())[0] == 200
            assert refused("connections") == before + 1
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    assert await held[0][0].read() == b""
            for _, writer in held:
                writer.close()
            await soon("their end", lambda: count("koupleless_listener_connections", listener="kubelet") == 0)
            # Handshakes that fail or never begin give their place back.
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", scene.server.port)
                writer.close()
            assert (await scene.get())[0] == 200

    async def test_a_log_that_is_read_makes_no_room(self, tmp_path: Path) -> None:
        async with running(tmp_path, bounds=replace(BOUNDS, connections=1, of_peer=1)) as scene:
            scene.source.quiet = True
            reader, writer = await scene.connect()
            writer.write(request(f"{PATH}?follow=true"))
            await reader.readuntil(b"two\n")
            with pytest.raises((OSError, ssl.SSLError, IndexError)):
                await scene.get()
            assert scene.source.open == 1
            writer.close()

    async def test_too_many_logs_are_refused(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scene.logs, "_slots", asyncio.Semaphore(1))
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
