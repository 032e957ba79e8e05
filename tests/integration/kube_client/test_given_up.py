"""Connections to the API server whose request is given up, or whose client ends: used again or ended, never left."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from controlplane.cluster.api import NODES, Upgrade
from controlplane.kube import kept
from controlplane.kube.client import KubeApiServer
from controlplane.kube.sockets import connect
from tests.integration.kube_client.scripted import OK, Script, always, served

LARGE = 32 << 20
"""More bytes than the systems of both ends take for who reads nothing."""


async def give_up(client: KubeApiServer, heads: list[bytes]) -> None:
    """Make a request, and give it up once the server has it."""
    before = len(heads)
    under_way = asyncio.create_task(client.get(NODES, "a"))
    while len(heads) == before:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.01)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way


async def give_up_connecting(client: KubeApiServer) -> None:
    """Make a request, and give it up while its connection is made."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.get(NODES, "a")


def no_answer(ended: asyncio.Event) -> Script:
    """Wait without a word for the end of the connection."""

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _number: int) -> None:
        assert await reader.read(1) == b""
        ended.set()

    return script


def first_late(seconds: float, numbers: list[int]) -> Script:
    """Answer the first request late and with another object; note the connection of each."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        numbers.append(number)
        if len(numbers) == 1:
            await asyncio.sleep(seconds)
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"kind":"x"}')
        else:
            writer.write(OK)

    return script


async def test_a_cancelled_request_leaves_no_reply_for_the_next() -> None:
    async with served(first_late(0.2, [])) as (client, heads):
        await give_up(client, heads)
        assert await client.get(NODES, "a") == {}


async def test_the_connection_of_a_cancelled_request_is_used_again_once_its_reply_came() -> None:
    numbers: list[int] = []
    async with served(first_late(0.1, numbers)) as (client, heads):
        await give_up(client, heads)
        await asyncio.sleep(0.15)
        assert await client.get(NODES, "a") == {}
    assert numbers == [1, 1]


async def test_the_connection_of_a_cancelled_request_that_is_not_answered_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "UNWANTED", 0.1)
    ended = asyncio.Event()

    async with served(no_answer(ended)) as (client, heads):
        await give_up(client, heads)
        async with asyncio.timeout(5.0):
            await ended.wait()


@pytest.mark.parametrize("next_after", [0.0, 0.4], ids=["while it is made", "when it is there"])
async def test_a_connection_that_was_made_for_a_cancelled_request_is_the_next_ones(
    monkeypatch: pytest.MonkeyPatch, next_after: float
) -> None:
    made: list[object] = []

    async def slow(*address: Any) -> socket.socket:
        made.append(address)
        await asyncio.sleep(0.3)
        return await connect(*address)

    monkeypatch.setattr(kept, "connect", slow)
    async with served(always(OK)) as (client, heads):
        for _ in range(3):
            await give_up_connecting(client)
        await asyncio.sleep(next_after)
        assert await client.get(NODES, "a") == {}
        assert len(heads) == 1
    assert len(made) == 1


async def test_what_was_given_up_ends_with_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def slow(*address: Any) -> socket.socket:
        await asyncio.sleep(0.2)
        return await connect(*address)

    async with served(no_answer(ended)) as (client, heads):
        await asyncio.sleep(0)
        before = asyncio.all_tasks()
        await give_up(client, heads)
        monkeypatch.setattr(kept, "connect", slow)
        await give_up_connecting(client)
        await client.close()
        async with asyncio.timeout(5.0):
            await ended.wait()
            left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
            await asyncio.gather(*left, return_exceptions=True)
    assert asyncio.all_tasks() - before == set()


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
