"""Kept connections to the API server: used again, given up when in doubt, and never read wrongly."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controlplane.app.ports import ClusterError, Rejected, Transient, Unknown
from controlplane.cluster.api import LEASES, NODES, Upgrade
from controlplane.kube import kept
from controlplane.kube.client import KubeApiServer
from controlplane.kube.resolver import StaleResolver
from controlplane.kube.sockets import connect
from kubeaccess.access import Access
from kubeaccess.authorization import CannotConnect
from tests.fakes.kubeaccess import fixed
from tests.serving import serving

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
LARGE = 32 << 20
"""More bytes than the systems of both ends take for who reads nothing."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def served(script: Script, **access: object) -> AsyncIterator[tuple[KubeApiServer, list[bytes]]]:
    """Serve with a script for each connection, which are numbered from 1; give a client, and the heads it sent."""
    heads: list[bytes] = []
    numbers = iter(range(1, 100))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads.append(head)
            length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
            await script(reader, writer, number)
            await writer.drain()
            if writer.is_closing():
                return

    async with serving(serve) as port:
        client = KubeApiServer(fixed(Access(f"http://127.0.0.1:{port}/prefix/", **access)))  # type: ignore[arg-type]
        try:
            yield client, heads
        finally:
            await client.close()


def always(*sent: bytes, close: bool = False) -> Script:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        for part in sent:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if close:
            writer.close()

    return script


async def write(client: KubeApiServer) -> None:
    await client.patch(LEASES, "a", {}, namespace="ns")


async def test_one_connection_serves_many_requests_below_a_prefix() -> None:
    connections: set[int] = set()

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        connections.add(number)
        writer.write(OK)

    ann = (("Impersonate-User", "ann"),)
    async with served(script, authorization="Bearer t", impersonation=ann) as (client, heads):
        for _ in range(3):
            await client.get(NODES, "a")
            await write(client)
    assert connections == {1}
    assert heads[0].startswith(b"GET /prefix/api/v1/nodes/a HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Bearer t\r\nImpersonate-User: ann\r\n" in heads[1]


@pytest.mark.parametrize(
    "sent",
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 2\r\n\r", b"\n{", b"}"),
        (b"HTTP/1.0 200 OK\r\n\r\n{", b"}"),
    ],
    ids=["chunks", "pieces", "until its end"],
)
async def test_each_form_of_a_reply_is_read(sent: tuple[bytes, ...]) -> None:
    async with served(always(*sent, close=sent[0].startswith(b"HTTP/1.0"))) as (client, _):
        for _ in range(2):
            assert await client.get(NODES, "a") == {}


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with served(always(OK, close=True)) as (client, heads):
        for _ in range(3):
            await client.get(NODES, "a")
            await asyncio.sleep(0.05)
            await write(client)
    assert len(heads) == 6


async def test_a_read_is_sent_again_where_the_server_closes_before_it_answers() -> None:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            writer.close()
        else:
            writer.write(OK)

    async with served(script) as (client, heads):
        assert await client.get(NODES, "a") == {}
        assert len(heads) == 2


async def test_a_write_is_not_sent_again_and_may_have_been_done() -> None:
    async with served(always(close=True)) as (client, heads):
        with pytest.raises(Unknown, match="the server closed the connection, after the request was sent"):
            await write(client)
        assert len(heads) == 1


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP/1 response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}", "no HTTP/1 response"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "interim reply"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the server closed the connection"),
    ],
    ids=["another protocol", "two lengths", "interim", "cut"],
)
async def test_what_is_no_reply_gives_the_connection_up(sent: bytes, words: str) -> None:
    async with served(always(sent, close=True)) as (client, heads):
        with pytest.raises(Unknown, match=words):
            await write(client)
        with pytest.raises(Transient, match=words):
            await client.get(NODES, "a")
        assert len(heads) == 2


async def test_bytes_that_nobody_asked_for_are_no_reply_to_the_next_request() -> None:
    numbers: list[int] = []

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        numbers.append(number)
        writer.write(OK)
        if number == 1:
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"kind":"x"}')

    async with served(script) as (client, _):
        assert await client.get(NODES, "a") == {}
        await asyncio.sleep(0.1)
        assert await client.get(NODES, "a") == {}
    assert numbers == [1, 2]


async def test_a_second_reply_in_the_same_bytes_is_no_reply_to_the_next_request() -> None:
    async with served(always(OK + b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"kind":"x"}')) as (client, _):
        for _ in range(3):
            assert await client.get(NODES, "a") == {}


async def test_a_reply_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 1000)
    async with served(always(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x" * 2000)) as (client, _):
        with pytest.raises(Transient, match="longer than 1000 bytes"):
            await client.get(NODES, "a")


async def test_a_cancelled_request_leaves_no_reply_for_the_next() -> None:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            await asyncio.sleep(0.2)
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"kind":"x"}')
        else:
            writer.write(OK)

    async with served(script) as (client, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(NODES, "a")
        assert await client.get(NODES, "a") == {}


async def test_the_connection_of_a_cancelled_request_is_used_again_once_its_reply_came() -> None:
    numbers: list[int] = []

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        numbers.append(number)
        if len(numbers) == 1:
            await asyncio.sleep(0.1)
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"kind":"x"}')
        else:
            writer.write(OK)

    async with served(script) as (client, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(NODES, "a")
        await asyncio.sleep(0.15)
        assert await client.get(NODES, "a") == {}
    assert numbers == [1, 1]


async def test_the_connection_of_a_cancelled_request_that_is_not_answered_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "UNWANTED", 0.1)
    ended = asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _number: int) -> None:
        assert await reader.read(1) == b""
        ended.set()

    async with served(script) as (client, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(NODES, "a")
        async with asyncio.timeout(5.0):
            await ended.wait()


@pytest.mark.parametrize("next_after", [0.0, 0.2], ids=["while it is made", "when it is there"])
async def test_a_connection_that_was_made_for_a_cancelled_request_is_the_next_ones(
    monkeypatch: pytest.MonkeyPatch, next_after: float
) -> None:
    made: list[object] = []

    async def slow(*address: Any) -> socket.socket:
        made.append(address)
        await asyncio.sleep(0.1)
        return await connect(*address)

    monkeypatch.setattr(kept, "connect", slow)
    async with served(always(OK)) as (client, heads):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await client.get(NODES, "a")
        await asyncio.sleep(next_after)
        assert await client.get(NODES, "a") == {}
        assert len(heads) == 1
    assert len(made) == 1


@pytest.mark.parametrize(
    ("moment", "takes", "expected"), [(10.0, 0.005, 1), (0.05, 0.4, 10)], ids=["is free in time", "is not"]
)
async def test_a_connection_that_is_in_use_is_waited_for_for_a_moment(
    moment: float, takes: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FREE_WITHIN", moment)
    connections: set[int] = set()

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        connections.add(number)
        await asyncio.sleep(takes)
        writer.write(OK)

    async with served(script) as (client, heads):
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(client.get(NODES, "a"))
        assert len(heads) == 10
    assert len(connections) == expected


async def test_a_connection_that_is_made_for_another_access_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def slow(*address: Any) -> socket.socket:
        await asyncio.sleep(0.3)
        return await connect(*address)

    def request(head: kept.Head) -> bytes:
        return head.request("GET", "/", None, "")

    resolver = StaleResolver()
    pool = kept.KeptConnections(resolver)
    async with serving(answer) as port:
        url = f"http://127.0.0.1:{port}"
        try:
            monkeypatch.setattr(kept, "connect", slow)
            one = asyncio.create_task(pool.ask(Access(url, authorization="Bearer a"), request, lambda: None))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(1.0):
                reply = await pool.ask(Access(url, authorization="Bearer b"), request, lambda: None)
                assert reply.body == b"Bearer b"
                assert (await one).body == b"Bearer a"
        finally:
            pool.close()
            await resolver.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with its credentials."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    (credentials,) = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Authorization: ")]
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(credentials)}\r\n\r\n{credentials}".encode())
    await writer.drain()


async def test_what_was_given_up_ends_with_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def slow(*address: Any) -> socket.socket:
        await asyncio.sleep(0.2)
        return await connect(*address)

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _number: int) -> None:
        assert await reader.read(1) == b""
        ended.set()

    async with served(script) as (client, _):
        await asyncio.sleep(0)
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(NODES, "a")
        monkeypatch.setattr(kept, "connect", slow)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(NODES, "a")
        await client.close()
        async with asyncio.timeout(1.0):
            await ended.wait()
            left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
            await asyncio.gather(*left, return_exceptions=True)
    assert asyncio.all_tasks() - before == set()


@pytest.mark.parametrize("value", ["Bearer a\r\nX: y", "Bearer \x00"])
async def test_a_credential_that_is_no_header_is_sent_to_nobody(value: str) -> None:
    async with served(always(OK), authorization=value) as (client, heads):
        with pytest.raises(ClusterError, match="Authorization"):
            await client.get(NODES, "a")
        assert heads == []
    with pytest.raises(CannotConnect):
        kept.Head.of(Access("http://127.0.0.1", authorization=value))


async def test_idle_connections_are_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        numbers.append(number)
        writer.write(OK)

    monkeypatch.setattr(kept, "KEEP_ALIVE", 0.1)
    async with served(script) as (client, _):
        for pause in (0.0, 0.0, 0.2, 0.0):
            await asyncio.sleep(pause)
            await client.get(NODES, "a")
    assert numbers == [1, 1, 2, 2]


async def test_a_refused_request_has_its_status() -> None:
    refused = b'HTTP/1.1 422 Unprocessable\r\nContent-Length: 17\r\n\r\n{"message":"why"}'
    async with served(always(refused)) as (client, _):
        with pytest.raises(Rejected, match="why"):
            await write(client)


async def test_a_connection_that_is_in_use_when_the_client_closes_is_not_kept() -> None:
    go, ended = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await go.wait()
        writer.write(OK)
        assert await reader.read(1) == b""
        ended.set()

    async with served(script) as (client, heads):
        under_way = asyncio.create_task(client.get(NODES, "a"))
        while not heads:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
        await client.close()
        go.set()
        assert await under_way == {}
        async with asyncio.timeout(5.0):
            await ended.wait()


async def test_a_connection_that_is_given_up_gently_ends_with_the_client() -> None:
    closed, received = asyncio.Event(), 0
    ended = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        nonlocal received
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        await closed.wait()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 20):
                received += len(piece)
        ended.set()
        writer.transport.abort()

    async with served(script) as (client, _):
        upgrade = Upgrade("create", "exec", (), (("Connection", "upgrade"), ("Upgrade", "x")))
        async with client.pod_stream("n", "p", upgrade, opens_within=5.0) as (_, stream):
            stream.write_now(b"x" * LARGE)
        await client.close()
        closed.set()
        async with asyncio.timeout(2.0):
            await ended.wait()
    assert received < LARGE
