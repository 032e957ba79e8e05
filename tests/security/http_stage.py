"""An HTTP gateway as a process, the control plane that it reports to, and what it says of itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.controlplane import FakeControlPlane, Stream
from tests.programs import HttpGateway, Programs, ask


@dataclass(frozen=True)
class Stage:
    """A gateway that is ready, and its stream."""

    programs: Programs
    gateway: HttpGateway
    control_plane: FakeControlPlane
    stream: Stream

    def log(self) -> str:
        """Return all that the gateway logged."""
        return self.gateway.server.log.read_text()

    async def metrics(self) -> str:
        """Return the text of its metrics."""
        return (await asyncio.to_thread(ask, f"http://127.0.0.1:{self.gateway.metrics}/metrics"))[1]

    async def count(self, series: str) -> float:
        """Return the value of a series, 0 if it is not there."""
        lines = (line.rpartition(" ") for line in (await self.metrics()).splitlines())
        return sum(float(value) for name, _, value in lines if name == series)


async def eventually(look: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    """Wait until look returns true."""
    async with asyncio.timeout(within):
        while not await look():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.1)


@asynccontextmanager
async def stage(folder: Path, **environ: str) -> AsyncIterator[Stage]:
    """Start a gateway with these variables."""
    async with FakeControlPlane().running() as control_plane:
        with Programs(folder) as programs:
            gateway = HttpGateway(programs, control_plane.address, **environ)
            await asyncio.to_thread(gateway.start)
            yield Stage(programs, gateway, control_plane, await control_plane.stream(0))
            await asyncio.to_thread(gateway.server.stop)
