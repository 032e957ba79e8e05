"""Streams pass through the kubelet API with real TLS and sockets, whatever either end does.

The API server is in memory: it repeats what it hears.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.app.ports import ClusterError, NotFound, Rejected, Transient
from controlplane.cluster.api import ByteStream, Upgrade
from controlplane.kubelet import streams as streams_module
from tests.integration.kubelet.scene import Scene, count, refused, request, running, soon

PATH = "/exec/modules/biz1/biz1?command=ls&output=1"
SPDY = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
ROOM = 100_000


class Echo:
    """Repeats what it is given; takes no more than ROOM bytes that were not read, and ends where somebody says so."""

    def __init__(self) -> None:
        self.held, self.given, self.ends = bytearray(), 0, False
        self.changed = asyncio.Condition()

    async def read(self) -> bytes:
        async with self.changed:
            await self.changed.wait_for(lambda: self.held or self.ends)
            data = await self.rest()
            self.changed.notify_all()
        return data

    async def rest(self) -> bytes:
        data = bytes(self.held)
        self.held.clear()
        return data

    async def write(self, data: bytes) -> None:
        self.write_now(data)
        async with self.changed:
            self.changed.notify_all()
            await self.changed.wait_for(lambda: len(self.held) < ROOM)

    def write_now(self, data: bytes) -> None:
        self.held += data
        self.given += len(data)

    async def end(self, *last: bytes) -> None:
        async with self.changed:
            self.held += b"".join(last)
            self.ends = True
            self.changed.notify_all()


class Streams:
    """An API server that has streams; refuses with an error if there is one."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Upgrade]] = []
        self.open: list[Echo] = []
        self.refuses: ClusterError | None = None

    @asynccontextmanager
    async def pod_stream(
        self, namespace: str, name: str, upgrade: Upgrade, *, opens_within: float
    ) -> AsyncIterator[tuple[Mapping[str, str], ByteStream]]:
        self.asked.append((namespace, name, upgrade))
        if self.refuses is not None:
            raise self.refuses
        echo = Echo()
        self.open.append(echo)
        try:
            yield {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io", "Secret": "x"}, echo
        finally:
            self.open.remove(echo)


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
async def scene(tmp_path: Path, streams: Streams) -> AsyncIterator[Scene]:
    async with running(tmp_path, streams=streams) as scene:
        yield scene


async def opened(scene: Scene, path: str = PATH) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await scene.connect()
    writer.write(request(path, method="POST", more=SPDY))
    return await reader.readuntil(b"\r\n\r\n"), reader, writer


def ended(outcome: str) -> float:
    return count("koupleless_kubelet_streams_total", kind="exec", outcome=outcome)


async def test_bytes_pass_both_ways(scene: Scene, streams: Streams) -> None:
    head, reader, writer = await opened(scene)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in head
    assert b"Secret" not in head
    for said in (b"\x00\xff", b"GET / HTTP/1.1\r\n\r\n", b"x" * 1_000_000):
        writer.write(said)
        assert await reader.readexactly(len(said)) == said
    ((namespace, name, upgrade),) = streams.asked
    assert (namespace, name, upgrade.verb, upgrade.subresource) == ("bases", "shop-0", "create", "exec")
    assert upgrade.options == [("container", "base"), ("stdout", "true"), ("command", "ls")]
    writer.close()


async def test_what_the_base_says_last_arrives_before_the_end(scene: Scene, streams: Streams) -> None:
    before = ended("ended")
    _, reader, writer = await opened(scene)
    last = b"y" * 500_000
    await streams.open[0].end(last)
    async with asyncio.timeout(10):
        assert await reader.read() == last
    writer.close()
    assert ended("ended") == before + 1


async def test_what_the_caller_says_last_reaches_the_base(scene: Scene, streams: Streams) -> None:
    _, _, writer = await opened(scene)
    (echo,) = streams.open
    writer.write(b"z" * 50_000)
    writer.close()
    await soon("its end", lambda: not streams.open)
    assert echo.given == 50_000


async def test_callers_who_do_not_read_hold_up_only_themselves(scene: Scene, streams: Streams) -> None:
    stuck = [await opened(scene) for _ in range(5)]
    for _, _, writer in stuck:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a real transport can
        writer.write(b"x" * (24 << 20))
    given = -1
    while sum(echo.given for echo in streams.open) != given:
        given = sum(echo.given for echo in streams.open)
        await asyncio.sleep(0.3)
    assert given < 5 * (16 << 20), "the content of the kernel's and our buffers"
    _, reader, writer = await opened(scene)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    for each in (*(writer for _, _, writer in stuck), writer):
        each.transport.abort()
    await soon("their end", lambda: not streams.open)
    assert count("koupleless_kubelet_streams_open", kind="exec") == 0


async def test_a_silent_stream_ends(scene: Scene, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "IDLE", 0.3)
    before = ended("idle")
    _, reader, writer = await opened(scene)
    with contextlib.suppress(OSError, ssl.SSLError):
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    await soon("it is counted", lambda: ended("idle") == before + 1)
    assert not streams.open
    writer.close()


async def test_too_many_are_refused(tmp_path: Path, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "MOST", 1)
    async with running(tmp_path, streams=streams) as scene:
        _, _, held = await opened(scene)
        status, head, _ = await scene.send(request(PATH, method="POST", more=SPDY))
        assert status == 429
        assert b"Retry-After" in head
        held.transport.abort()
        await soon("a free place", lambda: not streams.open)
        head, _, writer = await opened(scene)
        assert head.startswith(b"HTTP/1.1 101 ")
        writer.transport.abort()


@pytest.mark.parametrize(
    ("error", "status"),
    [(Rejected("pods is forbidden"), 400), (NotFound("no such Pod"), 400), (Transient("the node is away"), 500)],
)
async def test_a_refusal_is_passed_on(scene: Scene, streams: Streams, error: ClusterError, status: int) -> None:
    streams.refuses = error
    answered, _, body = await scene.send(request(PATH, method="POST", more=SPDY))
    assert answered == status
    assert f"exec in Pod bases/shop-0, container base: {error}" in body.decode()


async def test_the_end_of_the_program_ends_them(tmp_path: Path, streams: Streams) -> None:
    async with running(tmp_path, streams=streams) as scene:
        _, reader, _ = await opened(scene)
    await soon("their end", lambda: not streams.open)
    with contextlib.suppress(OSError, ssl.SSLError):
        assert await reader.read() == b""


@pytest.mark.parametrize("path", [PATH, "/attach/modules/biz1/biz1?output=1", "/portForward/modules/biz1"])
async def test_it_needs_the_right_to_create_an_upgrade_and_a_module(scene: Scene, streams: Streams, path: str) -> None:
    before = refused("no_upgrade")
    assert (await scene.send(request(path, method="POST")))[0] == 400
    assert refused("no_upgrade") == before + 1
    foreign = path.replace("modules/biz1", "bases/shop-0")
    assert (await scene.send(request(foreign, method="POST", more=SPDY)))[0] in (403, 404)
    # Kubelets ask for "get" where the method is GET, with which whoever may read metrics could run commands.
    assert (await scene.send(request(path, method="GET")))[0] == 400
    assert {spec["resourceAttributes"]["verb"] for _, spec in scene.api.asked} == {"create"}
    stranger = scene.authority.client(user="bob")
    assert (await scene.send(request(path, method="POST", more=SPDY), stranger))[0] == 403
    assert not streams.asked
