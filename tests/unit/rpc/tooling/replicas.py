"""Other replicas without sockets: the test writes their streams."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import grpc
from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.access.authenticator import Authenticator
from controlplane.app.tooling.installs import Installs
from controlplane.app.tooling.vnodes import VNodes
from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.tooling.audit import Audit
from controlplane.rpc.tooling.events import Events
from controlplane.rpc.tooling.following import ReplicaServicer
from controlplane.rpc.tooling.index import Index
from controlplane.rpc.tooling.replicas import ReplicaLinks
from controlplane.rpc.tooling.servicer import ToolingServicer
from grpcclient.access import ClientAccess, Metadata, Options
from tests.unit.app.harness import Stage

WITHIN = 2.0


class Refused(Exception):
    """The call ended with a status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code


class Call:
    """A call that has so many seconds left; None: as many as it takes."""

    def __init__(self, remaining: float | None = None) -> None:
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        return self._remaining

    async def abort_with_status(self, status: Any) -> None:
        raise Refused(status.code)


def call(remaining: float | None = None) -> aio.ServicerContext[Any, Any]:
    return cast("aio.ServicerContext[Any, Any]", Call(remaining))


def failure(code: grpc.StatusCode) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details="on order")


def vnode(name: str, *modules: pb.Module, **fields: Any) -> rpb.FollowResponse:
    """A VNode as its owner sends it."""
    return rpb.FollowResponse(vnode=rpb.OwnedVNode(vnode=pb.VNode(name=name, **fields), modules=modules))


class FakeMembers:
    """The living replicas, as the test sets them."""

    def __init__(self, *names: str, me: str = "replica-0") -> None:
        self.me = me
        self.known: tuple[Replica, ...] = ()
        self._handlers: list[Callable[[], None]] = []
        self.become(*names)

    def replicas(self) -> tuple[Replica, ...]:
        return self.known

    def subscribe(self, handler: Callable[[], None]) -> None:
        self._handlers.append(handler)

    def become(self, *names: str) -> None:
        """Make these the other living replicas; a name is its address, and one that ends in ? has none."""
        others = [Replica(name.rstrip("?"), "" if name.endswith("?") else name) for name in names]
        self.known = (Replica(self.me, self.me), *others)
        for handler in self._handlers:
            handler()


class Stream:
    """A stream of what the test sends; an exception breaks it, None ends it in order."""

    def __init__(self, address: str, requests: AsyncIterator[rpb.FollowRequest]) -> None:
        self.address = address
        self.asked = 0
        self.cancelled = False
        self._queue: asyncio.Queue[rpb.FollowResponse | Exception | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read(requests))

    async def _read(self, requests: AsyncIterator[rpb.FollowRequest]) -> None:
        async for request in requests:
            self.asked = request.sync

    def cancel(self) -> bool:
        self.cancelled = True
        self._reading.cancel()
        return True

    async def __aiter__(self) -> AsyncIterator[rpb.FollowResponse]:
        while (message := await self._queue.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    def send(self, *messages: rpb.FollowResponse | Exception | None) -> None:
        for message in messages:
            self._queue.put_nowait(message)

    def sync(self, **more: Any) -> None:
        """Answer the question."""
        self.send(rpb.FollowResponse(synced=rpb.Synced(number=self.asked, **more)))


class Network:
    """All streams that were opened, in order; those to a replica of served are answered by its servicer."""

    def __init__(self, *names: str) -> None:
        self.members = FakeMembers(*names)
        self.opened: list[Stream] = []

    def metadata(self, _address: str) -> Metadata:
        return ()

    def channel(self, address: str, _options: Options) -> aio.Channel:
        def follow(requests: AsyncIterator[rpb.FollowRequest], metadata: Metadata) -> Stream:
            self.opened.append(Stream(address, requests))
            return self.opened[-1]

        return cast("aio.Channel", nullcontext(SimpleNamespace(stream_stream=lambda *_, **__: follow)))

    def last(self, name: str) -> Stream:
        """Return the stream to a replica that was opened last."""
        return next(stream for stream in reversed(self.opened) if stream.address == name)


class Tooling:
    """The parts that answer tools at one replica."""

    def __init__(self, stage: Stage, network: Network) -> None:
        self.stage = stage
        self.network = network
        vnodes = VNodes(stage.cluster, stage.roster, "dev")
        self.index = Index(vnodes)
        self.events = Events(stage.recorder, self.index.changed)
        self.links = ReplicaLinks(
            cast("Any", network.members), vnodes, self.index, self.events, cast("ClientAccess", network)
        )
        self.servicer = ToolingServicer(
            index=self.index,
            links=self.links,
            vnodes=vnodes,
            events=self.events,
            gateways=stage.gateways,
            members=stage.members,
            installs=Installs(stage.cluster, env="dev"),
            baselines=stage.baselines,
            manifests=None,
            authenticator=Authenticator(None, None),
            audit=Audit(stage.recorder),
        )
        self.replicas = ReplicaServicer(self.index, stage.roster, stage.recorder, stage.gateways, instance="i1")


@asynccontextmanager
async def tooling(stage: Stage, *others: str) -> AsyncIterator[Tooling]:
    """Run it at a replica of a stage."""
    running = Tooling(stage, Network(*others))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(running.index.run()), group.create_task(running.links.run())]
        await asyncio.sleep(0)
        try:
            yield running
        finally:
            for task in tasks:
                task.cancel()
