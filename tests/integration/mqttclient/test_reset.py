"""The end of a connection is noticed even if the event loop does not report it, as uvloop after some socket errors."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from mqttclient.connection import MAX_PUBLISHES, MqttConnection
from mqttclient.failures import Lost, NotSent
from mqttclient.settings import BrokerSettings
from tests.serving import serving

CONNACK = b"\x20\x02\x00\x00"
WITHIN = 5.0
"""Seconds; a keepalive of 20 s would take at least 20."""


class UnwatchedLoop:
    """A loop that no longer watches sockets for writing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def add_writer(self, *_: object) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[MqttConnection, asyncio.StreamWriter]]:
    """A connection to a broker that says no more than CONNACK, and the broker's end of it."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(256)
        writer.write(CONNACK)
        accepted.set_result(writer)
        await writer.wait_closed()

    async with serving(broker) as port:
        settings = BrokerSettings.model_validate({"broker": "127.0.0.1", "port": port})
        connection = MqttConnection(settings, "gateway", lambda _: None)
        await connection.open()
        writer = await accepted
        try:
            yield connection, writer
        finally:
            connection.close()
            writer.transport.abort()


def by_fin(writer: asyncio.StreamWriter) -> None:
    writer.close()


def by_reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def unreported(end: Callable[[asyncio.StreamWriter], None]) -> None:
    async with connected() as (connection, writer):
        asyncio.get_running_loop().remove_reader(connection._descriptor)
        await asyncio.sleep(0.05)
        end(writer)
        async with asyncio.timeout(WITHIN):
            assert await connection.ended
        with pytest.raises(NotSent):
            connection.publish("topic", b"payload")


async def refused(qos: int) -> None:
    async with connected() as (connection, writer):
        connection._loop = UnwatchedLoop(connection._loop)  # type: ignore[assignment]
        sent = [connection.publish("topic", b"x" * 2**20, qos=qos) for _ in range(8)]
        await asyncio.sleep(0)
        by_reset(writer)
        async with asyncio.timeout(WITHIN):
            assert await connection.ended
        # The first with QoS 0 were written before.
        for future in sent if qos else sent[-1:]:
            with pytest.raises(Lost):
                await future


@pytest.mark.parametrize("end", [by_fin, by_reset])
def test_an_end_that_the_loop_does_not_report_is_noticed_soon(end: Callable[[asyncio.StreamWriter], None]) -> None:
    uvloop.run(unreported(end))


async def unanswered() -> None:
    async with connected() as (connection, _):
        await connection.unsubscribe(["a/b"])
        assert connection.up


def test_a_broker_that_does_not_answer_unsubscribe_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqttclient.connection.ANSWER_TIMEOUT", 0.1)
    uvloop.run(unanswered())


@pytest.mark.parametrize("qos", [0, 1])
def test_a_loop_that_gave_the_socket_up_fails_no_publish(qos: int) -> None:
    uvloop.run(refused(qos))


async def unacknowledged() -> None:
    async with connected() as (connection, _):
        kept = connection.publish("topic", b"payload")
        async with asyncio.timeout(WITHIN):
            await connection.publish("topic", b"payload", qos=0)
        assert not kept.done()


def test_what_has_qos_0_is_sent_once_it_is_written() -> None:
    uvloop.run(unacknowledged())


async def crowded(qos: int) -> None:
    async with connected() as (connection, _):
        for _ in range(MAX_PUBLISHES):
            connection.publish("topic", b"payload", qos=qos)
        with pytest.raises(NotSent, match="too many"):
            connection.publish("topic", b"payload", qos=qos)


@pytest.mark.parametrize("qos", [0, 1])
def test_what_waits_to_be_sent_is_bounded(qos: int) -> None:
    uvloop.run(crowded(qos))
