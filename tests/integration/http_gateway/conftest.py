"""One gateway in this process, with a fake control plane and real sockets on loopback."""

import asyncio
import ipaddress
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways import program
from gateways.http.__main__ import HttpGateway
from gateways.http.settings import HttpGatewaySettings
from tests.fakes.controlplane import FakeControlPlane, Stream
from tests.servers.process import free_port


@dataclass
class Gateway:
    """A running gateway."""

    port: int
    stop: asyncio.Event
    task: asyncio.Task[None]
    status_socket: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(15):
            await self.task


@dataclass
class Scene:
    """A gateway, its control plane and their stream."""

    control_plane: FakeControlPlane
    gateway: Gateway
    stream: Stream


@asynccontextmanager
async def gateway_running(control_plane: str, **changes: object) -> AsyncIterator[Gateway]:
    with tempfile.TemporaryDirectory() as folder:
        values: dict[str, object] = {
            "listen_host": "127.0.0.1",
            "listen_port": free_port(),
            "allowed_cidrs": (ipaddress.ip_network("127.0.0.0/8"),),
            "control_plane": control_plane,
            "client_id": f"gateway-{random.randrange(10**6)}",
            "status_socket": str(Path(folder) / "status"),
            "connect_timeout": 1.0,
            "health_timeout": 1.0,
            "query_timeout": 1.0,
            "shutdown_timeout": 2.0,
        }
        settings = HttpGatewaySettings.model_validate({**values, **changes})
        stop = asyncio.Event()
        task = asyncio.create_task(program.serve(settings, stop, pb.TUNNEL_KIND_HTTP, HttpGateway))
        gateway = Gateway(settings.listen_port, stop, task, settings.status_socket)
        try:
            await _listening(gateway)
            yield gateway
        finally:
            await gateway.end()


async def ready(control_plane: FakeControlPlane, number: int = 0) -> Stream:
    """Wait until the gateway uses a stream: its first report is the state of the tunnel."""
    stream = await control_plane.stream(number)
    await stream.report("tunnel_state")
    return stream


async def _listening(gateway: Gateway) -> None:
    async with asyncio.timeout(10):
        while not gateway.task.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    await gateway.task


@pytest.fixture
async def control_plane() -> AsyncIterator[FakeControlPlane]:
    async with FakeControlPlane().running() as fake:
        yield fake


Start = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def start(control_plane: FakeControlPlane) -> AsyncIterator[Start]:
    """Start the gateway with changed settings and wait for its stream."""
    async with AsyncExitStack() as stack:

        async def begin(**changes: object) -> Scene:
            gateway = await stack.enter_async_context(gateway_running(control_plane.address, **changes))
            return Scene(control_plane, gateway, await ready(control_plane))

        yield begin


@pytest.fixture
async def scene(start: Start) -> Scene:
    return await start()
