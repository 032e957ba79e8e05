"""Logs of bases that run in no Pod come from LOG_SOURCE, as they come there; real sockets, the cluster in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from controlplane.cluster.api import PODS
from controlplane.kubelet.logsource import LogSource
from controlplane.kubelet.logtemplate import LogTemplate
from tests.integration.kubelet.scene import PATH, Scene, request, running, soon

LINES = b"one\ntwo\nthree\n"
EXPLAINED = (
    b"[module-controller] the base of vnode.b1.dev (host shop-0, address 10.0.0.7) runs in no Pod of this cluster"
)


@dataclass
class Server:
    """Answers with a status and lines; where it is endless, it goes on until the reader leaves."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    readers: int = 0
    asked: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    url: str = ""

    async def answer(self, asked: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((asked.path, dict(asked.query), asked.headers.get("Authorization", "")))
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(asked)
        await response.write(LINES)
        self.readers += 1
        try:
            while self.endless:
                await response.write(b"more\n")
                await asyncio.sleep(0.01)
        finally:
            self.readers -= 1
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = web.ServerRunner(web.Server(server.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def scene(tmp_path: Path, server: Server) -> AsyncIterator[Scene]:
    """Give a kubelet API whose one base is in no Pod."""
    (tmp_path / "token").write_text("first\n")
    source = LogSource(LogTemplate(f"{server.url}/of/{{host}}?since={{since}}"), str(tmp_path / "token"))
    async with running(tmp_path, elsewhere=source) as scene:
        await scene.api.delete(PODS, "shop-0", namespace="bases")
        yield scene
    await source.close()


async def log(scene: Scene, query: str = "") -> tuple[int, bytes]:
    status, head, body = await scene.get(f"{PATH}{query}")
    if b"chunked" in head:
        parts = body.split(b"\r\n")
        assert parts[-3:] == [b"0", b"", b""], "it is cut"
        body = b"".join(parts[1:-3:2])
    return status, body


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", LINES),
        ("?tailLines=2", b"two\nthree\n"),
        ("?tailLines=0", b""),
        ("?tailLines=9", LINES),
        ("?limitBytes=5", b"one\nt"),
        ("?tailLines=2&limitBytes=3&follow=true", b"two"),
    ],
)
async def test_what_the_server_is_not_asked_for_is_done_here(
    scene: Scene, server: Server, query: str, text: bytes
) -> None:
    assert await log(scene, query) == (200, text)


async def test_the_server_is_asked_for_the_base_with_the_token_of_now(
    scene: Scene, server: Server, tmp_path: Path
) -> None:
    await log(scene, "?sinceTime=2026-01-31T12:00:00Z")
    (tmp_path / "token").write_text("second")
    await log(scene)
    assert server.asked == [
        ("/of/shop-0", {"since": "2026-01-31T12:00:00Z"}, "Bearer first"),
        ("/of/shop-0", {"since": ""}, "Bearer second"),
    ]


async def test_where_the_server_has_none_one_line_says_so(scene: Scene, server: Server) -> None:
    server.status = 404
    status, body = await log(scene)
    assert status == 200
    assert body.startswith(EXPLAINED)


@pytest.mark.parametrize(
    ("answers", "query", "status", "text"),
    [
        (302, "", 400, b"redirects (HTTP 302)"),
        (401, "", 400, b"answered HTTP 401"),
        (500, "", 500, b"answered HTTP 500"),
        (200, "?previous=true", 400, b"no log of a process before this one"),
        (200, "?tailLines=ten", 400, b"tailLines=ten: it is no number"),
    ],
)
async def test_a_failure_is_reported(
    scene: Scene, server: Server, answers: int, query: str, status: int, text: bytes
) -> None:
    server.status, server.headers = answers, {"Location": f"{server.url}/elsewhere"}
    answered, body = await log(scene, query)
    assert answered == status
    assert body.startswith(b"the log of the base of vnode.b1.dev: ")
    assert text in body
    assert "/elsewhere" not in [path for path, _, _ in server.asked]


async def test_a_server_that_is_away_and_a_token_that_is_gone_are_reported(
    scene: Scene, tmp_path: Path, server: Server
) -> None:
    (tmp_path / "token").unlink()
    status, body = await log(scene)
    assert (status, b"LOG_SOURCE_TOKEN_PATH=" in body) == (500, True)


async def test_a_reader_that_leaves_ends_it(scene: Scene, server: Server) -> None:
    server.endless = True
    reader, writer = await scene.connect()
    writer.write(request(f"{PATH}?follow=true"))
    await reader.readuntil(b"more\n")
    writer.transport.abort()
    await soon("the end", lambda: server.readers == 0)
