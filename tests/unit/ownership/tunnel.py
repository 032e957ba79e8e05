"""The streams between gateways and replicas: messages in order, delayed, lost with their stream.

Stands in for gRPC on both sides: what the gateways' ``ReplicaStream`` calls, and the context that
``TunnelServicer.Connect`` reads and writes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
from grpc import aio

from tests.unit.ownership.world import Process, World

NOTICED = 15.0
"""Seconds within which either side of a silent connection finds out: keepalive and its timeout."""


class Aborted(Exception):
    """The servicer ended the call with a status."""


class End:
    """One end of a stream: what arrived, and the process that reads it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.arrived: deque[Any] = deque()
        self.something = asyncio.Event()
        self.last = 0.0
        self.closed = False

    def take(self, message: Any) -> None:
        self.arrived.append(message)
        self.something.set()

    async def next(self) -> Any:
        while not self.arrived:
            self.something.clear()
            await self.something.wait()
        # The end of the stream stays, for each later read.
        return self.arrived[0] if self.arrived[0] is aio.EOF else self.arrived.popleft()


class Network:
    """Which processes reach each other, and the streams between them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.servers: list[tuple[str, Process, Callable[[Any], Any]]] = []
        self.cut: dict[frozenset[str], float] = {}
        self.slow: dict[str, tuple[float, float]] = {}
        """By replica: seconds that its messages take, and until when."""
        self.streams: list[Stream] = []
        self.pause = 0.0
        """How probable it is that a process is stopped right before a message leaves it."""

    def serve(self, endpoint: str, process: Process, connect: Callable[[Any], Any]) -> None:
        self.servers.append((endpoint, process, connect))

    def is_cut(self, one: str, other: str) -> bool:
        return self.world.now < self.cut.get(frozenset((one, other)), 0.0)

    def cut_off(self, one: str, other: str, seconds: float) -> None:
        self.cut[frozenset((one, other))] = self.world.now + seconds
        for stream in self.streams:
            if {stream.client.process.name, stream.server.process.name} == {one, other}:
                stream.stall(seconds)

    def ended(self, process: Process) -> None:
        """A process is gone: its system closes its connections."""
        for stream in [s for s in self.streams if process in (s.client.process, s.server.process)]:
            stream.close()
        self.servers = [server for server in self.servers if server[1] is not process]

    def connect(self, endpoint: str) -> "Stream":
        client = asyncio.get_running_loop()
        assert isinstance(client, Process)
        served = ((process, serve) for known, process, serve in self.servers if known == endpoint)
        process, serve = next(served, (client, None))
        stream = Stream(self, client, process)
        if serve is None or not process.alive or self.is_cut(client.name, process.name):
            stream.fail("no connection")
        else:
            self.streams = [*(s for s in self.streams if not s.over), stream]
            self.world.after(0.005, lambda: process.deliver(lambda: stream.begin(serve)))
        return stream


class Stream:
    """One call. The client's methods are those of a grpc.aio call."""

    def __init__(self, network: Network, client: Process, server: Process) -> None:
        self._network, self._world = network, network.world
        self.client, self.server = End(client), End(server)
        self._stalled = self._problem = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        return self.client.closed and self.server.closed

    # The client's side.

    async def read(self) -> Any:
        message = await self.client.next()
        if message is aio.EOF and self._problem:
            raise aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(), self._problem)
        return message

    async def write(self, message: Any) -> None:
        if self.client.closed:
            raise asyncio.InvalidStateError("the call is over")
        self._send(self.client, self.server, message)

    async def done_writing(self) -> None:
        """The goodbye message ends what the server reads."""

    def cancel(self) -> None:
        self.client.process.send(self.close)

    # The server's side.

    def begin(self, serve: Callable[[Any], Any]) -> None:
        async def answer() -> None:
            try:
                await serve(context)
            except Aborted as error:
                self._problem = str(error)
            finally:
                self.server.process.send(self.close)

        async def write(message: Any) -> None:
            if self.server.closed:
                raise aio.InternalError("the call is over")
            self._send(self.server, self.client, message)

        async def abort(_code: grpc.StatusCode, details: str = "") -> None:
            raise Aborted(details)

        context = SimpleNamespace(read=self.server.next, write=write, abort=abort)
        if not self.server.closed:
            self._task = self.server.process.create_task(answer())

    # Between them.

    def _send(self, source: End, target: End, message: Any) -> None:
        process = source.process
        if self._world.chance(self._network.pause):
            process.pause(self._world.random.choice((0.5, 6.0, 9.0, 14.0, 40.0)))
        process.send(lambda: self._travel(target, message))

    def _travel(self, target: End, message: Any) -> None:
        if self.over or self._stalled:
            return
        lag, until = self._network.slow.get(self.server.process.name, (0.0, 0.0))
        delay = self._world.random.uniform(0.001, 0.02) + (lag if self._world.now < until else 0.0)
        target.last = max(target.last + 1e-6, self._world.now + delay)
        self._world.at(target.last, lambda: self._arrive(target, message))

    def _arrive(self, target: End, message: Any) -> None:
        if not target.closed and not self._stalled:
            target.process.deliver(lambda: target.take(message))

    def stall(self, seconds: float) -> None:
        """Let nothing through any more; each side finds out on its own."""
        self._stalled = "the connection is silent"
        for end in (self.client, self.server):
            self._world.after(self._world.random.uniform(0.0, NOTICED), lambda end=end: self._close(end))  # type: ignore[misc]

    def fail(self, problem: str) -> None:
        self._problem = problem
        self.server.closed = True
        self._world.after(self._world.random.uniform(0.01, 0.5), lambda: self._close(self.client))

    def close(self) -> None:
        """End it from one side; messages under way still arrive."""
        self._problem = self._problem or "the stream ended"
        for end in (self.client, self.server):
            end.last = max(end.last + 1e-6, self._world.now + 0.005)
            self._world.at(end.last, lambda end=end: self._close(end))  # type: ignore[misc]

    def _close(self, end: End) -> None:
        if not end.closed:
            end.closed = True
            end.process.deliver(lambda: end.take(aio.EOF))
