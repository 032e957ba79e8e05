"""Gateways in this process with a real Mosquitto, a fake control plane and bases on loopback."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways import program
from gateways.mqtt.__main__ import MqttGateway
from gateways.mqtt.settings import MqttGatewaySettings
from tests.fakes.controlplane import FakeControlPlane, Stream
from tests.integration.mqtt_gateway.bases import Base
from tests.servers.mosquitto import Mosquitto


@dataclass
class Gateway:
    """A running gateway."""

    stop: asyncio.Event
    task: asyncio.Task[None]
    status_socket: str

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(15):
            await self.task

    async def status(self, path: str) -> tuple[int, str]:
        """Return status and text of a path of the status listener."""
        connector = aiohttp.UnixConnector(self.status_socket)
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.get(f"http://gateway/{path}") as answer,
        ):
            return answer.status, await answer.text()


@asynccontextmanager
async def gateway_running(port: int, control_plane: str, **changes: object) -> AsyncIterator[Gateway]:
    with tempfile.TemporaryDirectory() as folder:
        values: dict[str, object] = {
            "broker": "127.0.0.1",
            "port": port,
            "control_plane": control_plane,
            "client_id": f"gateway-{random.randrange(10**6)}",
            "status_socket": str(Path(folder) / "status"),
            "health_timeout": 1.0,
            "query_timeout": 1.0,
            "shutdown_timeout": 2.0,
        }
        settings = MqttGatewaySettings.model_validate({**values, **changes})
        stop = asyncio.Event()
        task = asyncio.create_task(program.serve(settings, stop, pb.TUNNEL_KIND_MQTT, MqttGateway))
        gateway = Gateway(stop, task, settings.status_socket)
        try:
            yield gateway
        finally:
            await gateway.end()


async def broker_up(stream: Stream, *, up: bool = True, after: int = 0) -> None:
    """Wait until the gateway reports that the broker is up, or down."""

    def found() -> bool | None:
        states = [report.tunnel_state for report in stream.matching("tunnel_state", after=after)]
        return True if states and states[-1].up is up else None

    await stream.until(found)


@dataclass
class Scene:
    """A gateway that serves, its control plane and their stream, and the broker."""

    broker: Mosquitto
    control_plane: FakeControlPlane
    gateway: Gateway
    stream: Stream
    stack: AsyncExitStack

    async def base(self, identity: str = "base-1", env: str = "dev") -> Base:
        """Return a base that is connected."""
        return await self.stack.enter_async_context(Base(self.broker.port, identity, env).running())


@pytest.fixture
async def control_plane() -> AsyncIterator[FakeControlPlane]:
    async with FakeControlPlane().running() as fake:
        yield fake


Start = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def start(mosquitto: Mosquitto, control_plane: FakeControlPlane) -> AsyncIterator[Start]:
    """Start a gateway with changed settings and wait until it serves."""
    async with AsyncExitStack() as stack:
        count = 0

        async def begin(**changes: object) -> Scene:
            nonlocal count
            gateway = await stack.enter_async_context(gateway_running(mosquitto.port, control_plane.address, **changes))
            stream = await control_plane.stream(count)
            count += 1
            await broker_up(stream)
            return Scene(mosquitto, control_plane, gateway, stream, stack)

        yield begin


@pytest.fixture
async def scene(start: Start) -> Scene:
    return await start()
