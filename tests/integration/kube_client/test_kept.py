"""Kept connections to the API server: used again, given up when in doubt, and never read wrongly."""

import asyncio
import socket
from typing import Any

import pytest

from controlplane.app.ports import ClusterError, Rejected, Transient, Unknown
from controlplane.cluster.api import LEASES, NODES
from controlplane.kube import kept
from controlplane.kube.client import KubeApiServer
from controlplane.kube.resolver import StaleResolver
from controlplane.kube.sockets import connect
from kubeaccess.access import Access
from kubeaccess.authorization import CannotConnect
from tests.integration.kube_client.scripted import OK, always, served
from tests.serving import serving


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
