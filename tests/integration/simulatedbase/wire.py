"""Raw HTTP for these tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.fields import first_object
from mqttclient.settings import BrokerSettings
from tests.serving import serving

SECONDS = 10.0


def broker(port: int, **account: object) -> BrokerSettings:
    """Return how a base reaches a broker on loopback."""
    return BrokerSettings.model_validate({"broker": "127.0.0.1", "port": port, **account})


async def exchange(port: int, request: bytes) -> bytes:
    """Send bytes and return everything until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(request)
            await writer.drain()
            return await reader.read()
    finally:
        writer.transport.abort()


def post(command: str, body: bytes) -> bytes:
    """Return a POST request as Java and Go clients write it."""
    return (
        f"POST /{command} HTTP/1.1\r\nHost: base\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def command(port: int, name: str, body: bytes = b"{}") -> bytes:
    """Return the body of a command's answer."""
    head, _, answer = (await exchange(port, post(name, body))).partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK"
    return answer


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that has no event."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Controller:
    """Takes heartbeats with a given answer and keeps the raw requests."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1000)
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nSUCCESS"
        self.port = 0

    async def next(self) -> bytes:
        """Return the next request."""
        async with asyncio.timeout(SECONDS):
            return await self.requests.get()

    async def heartbeat(self) -> pb.Report:
        """Return the next request, which is a heartbeat, as a gateway reads it."""
        data = first_object((await self.next()).partition(b"\r\n\r\n")[2])
        report = payloads.heartbeat(data)
        report.heartbeat.address.port = payloads.port(data)
        return report

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request on one connection; a base that stops leaves in the middle of one."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.requests.put_nowait(head + await reader.readexactly(length))
        writer.write(self.answer)
        await writer.drain()


@asynccontextmanager
async def controller() -> AsyncIterator[Controller]:
    """Listen for heartbeats on a free port."""
    receiver = Controller()
    async with serving(receiver.serve) as receiver.port:
        yield receiver
