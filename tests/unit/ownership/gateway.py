"""A gateway process: the real links, streams, orders, fences and polling, over the model's network."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self, cast

import grpc
import pytest
from grpc import aio
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.polling.prober import Answer, Prober
from gateways.session import links, observed, outboxes
from gateways.session import stream as streams
from gateways.session.links import ControlPlaneLinks
from grpcclient.access import ClientAccess
from tests.unit.ownership.bases import SimBase
from tests.unit.ownership.tunnel import Network
from tests.unit.ownership.world import Process, World

HEARTBEAT_INTERVAL = 12.0


class Access:
    """How gateways connect on the model's network."""

    def channel(self, endpoint: str, _options: object) -> "Channel":
        return Channel(endpoint)

    def metadata(self, _address: str) -> tuple[()]:
        return ()


class Channel:
    """A channel of the model's network."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to close."""


class Gateway:
    """One gateway. Implements ``links.Tunnel``."""

    def __init__(self, world: World, name: str, endpoints: tuple[str, ...], bases: dict[str, SimBase]) -> None:
        self.world, self.bases = world, bases
        self.process = Process(world, name, offset=world.random.uniform(0, 1000))
        self.executed: list[tuple[str, int]] = []
        hello = pb.Hello(
            gateway_id=name,
            instance_id=f"{name}-{len(world.processes)}",
            tunnel=pb.TUNNEL_KIND_HTTP,
            env="dev",
            version="test",
        )
        self.links = ControlPlaneLinks(hello, endpoints, cast("ClientAccess", Access()))
        self.prober = Prober(self.ask, self.links.outboxes.report, chance=world.random.random)
        self.links._tunnel = self
        self.process.create_task(self.links.run(self))
        self.process._plan()

    async def execute(self, order: pb.Order) -> pb.OrderResult:
        answer: asyncio.Future[pb.OrderResult] = asyncio.get_running_loop().create_future()

        def arrive(reply: pb.Reply) -> None:
            if not answer.done():
                answer.set_result(pb.OrderResult(reply=reply))

        def reply(given: pb.Reply) -> None:
            self.world.after(0.003, lambda: self.process.deliver(lambda: arrive(given)))

        self.executed.append((order.base_id, order.fence))
        base = self.bases[order.base_id]
        self.process.send(lambda: self.world.after(0.003, lambda: base.ask(order, reply)))
        return await answer

    def watch(self, watch: pb.Watch) -> None:
        self.prober.watch(watch)

    def unwatch(self, base: str) -> None:
        self.prober.unwatch(base)

    def settled(self, kept: pb.Report) -> None:
        """HTTP keeps nothing beside the outbox."""

    async def ask(self, watch: pb.Watch, verb: pb.Verb.ValueType, failing: bool) -> Answer:
        await asyncio.sleep(0.005)
        base = self.bases[watch.base_id]
        if verb == pb.VERB_HEALTH:
            return Answer(pb.Report(base_id=base.name, health=pb.Health(state=pb.BASE_STATE_ACTIVATED)))
        listed = pb.Modules(complete=True, modules=base.list(), epoch=watch.epoch)
        await asyncio.sleep(0.005)
        return Answer(pb.Report(base_id=base.name, modules=listed))

    def heartbeat(self, base: SimBase) -> None:
        """A base posts its heartbeat here."""
        report = base.heartbeat()

        def take() -> None:
            self.prober.heartbeat(base.name, report.heartbeat.address)
            self.links.outboxes.report(report)

        self.process.deliver(take)


class _Time:
    """Stands in for the module time: each process has its own clock."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def time() -> float:
        return 1_790_000_000.0 + asyncio.get_running_loop().time()


@contextmanager
def on_network(network: Network) -> Iterator[None]:
    """Have gateways use the model's network and clocks."""

    async def resolve(endpoint: str) -> list[str]:
        return [endpoint]

    def stub(channel: Any) -> Any:
        return SimpleNamespace(Connect=lambda metadata: network.connect(channel.endpoint))

    fake = SimpleNamespace(AioRpcError=aio.AioRpcError, InternalError=aio.InternalError)
    state = random.getstate()
    random.seed(network.world.random.random())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "grpc", SimpleNamespace(aio=fake, StatusCode=grpc.StatusCode))
        patch.setattr(streams, "TunnelServiceStub", stub)
        for module in (links, observed, outboxes, streams):
            patch.setattr(module, "time", _Time)
        patch.setattr(links, "resolve", resolve)
        try:
            yield
        finally:
            random.setstate(state)
