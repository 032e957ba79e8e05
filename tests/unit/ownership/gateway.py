"""A gateway process: the real session, streams, ledger, fences and polling, over the model's network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc import aio

from gateways.arklet.facts import BaseState, Health, Verb
from gateways.polling.prober import Answer, Prober
from gateways.session import messages as m
from gateways.session import session as sessions
from gateways.session import stream as streams
from tests.unit.ownership.bases import SimBase
from tests.unit.ownership.tunnel import Network
from tests.unit.ownership.world import Process, World

BEAT = 12.0


class Gateway:
    """One gateway. Implements ``m.Tunnel`` and ``prober.Questions``."""

    def __init__(self, world: World, name: str, endpoints: tuple[str, ...], bases: dict[str, SimBase]) -> None:
        self.world, self.bases = world, bases
        self.process = Process(world, name, offset=world.random.uniform(0, 1000))
        self.executed: list[tuple[str, int]] = []
        hello = m.Hello(name, f"{name}-{len(world.processes)}", m.TunnelKind.HTTP, "dev", "test")
        self.session = sessions.Session(hello, endpoints)
        self.prober = Prober(self, self.session.report, chance=world.random.random)
        self.session._tunnel = self
        self.process.create_task(self.session.run(self))
        self.process._plan()

    async def execute(self, order: m.Order) -> m.Outcome:
        answer: asyncio.Future[m.Outcome] = asyncio.get_running_loop().create_future()

        def arrive(reply: m.Outcome) -> None:
            if not answer.done():
                answer.set_result(reply)

        def reply(outcome: m.Outcome) -> None:
            self.world.after(0.003, lambda: self.process.deliver(lambda: arrive(outcome)))

        self.executed.append((order.base, order.fence))
        base = self.bases[order.base]
        self.process.send(lambda: self.world.after(0.003, lambda: base.ask(order, reply)))
        return await answer

    def watch(self, watch: m.Watch) -> None:
        self.prober.watch(watch)

    def unwatch(self, base: str) -> None:
        self.prober.unwatch(base)

    def settled(self, kept: m.OrderResult | m.Report) -> None:
        """HTTP keeps nothing else."""

    async def ask(self, watch: m.Watch, verb: Verb, *, failing: bool) -> Answer:
        await asyncio.sleep(0.005)
        base = self.bases[watch.base]
        if verb is Verb.HEALTH:
            return Answer(Health(BaseState.ACTIVATED))
        listed = base.list()
        await asyncio.sleep(0.005)
        return Answer(m.ModuleList(listed, watch.epoch))

    def beat(self, base: SimBase) -> None:
        """A base posts its heartbeat here."""
        heartbeat = base.heartbeat()

        def take() -> None:
            self.prober.beat(base.name, m.Address(heartbeat.ip, heartbeat.port))
            self.session.report(base.name, heartbeat)

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

    class Channel:
        def __init__(self, endpoint: str, options: object) -> None:
            self.endpoint = endpoint

        async def __aenter__(self) -> Channel:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Nothing is held."""

    async def resolve(endpoint: str) -> list[str]:
        return [endpoint]

    def stub(channel: Any) -> Any:
        return SimpleNamespace(Connect=lambda: network.connect(channel.endpoint))

    fake = SimpleNamespace(insecure_channel=Channel, AioRpcError=aio.AioRpcError, UsageError=aio.UsageError)
    state = random.getstate()
    random.seed(network.world.random.random())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "grpc", SimpleNamespace(aio=fake, StatusCode=grpc.StatusCode))
        patch.setattr(streams, "TunnelServiceStub", stub)
        patch.setattr(streams, "time", _Time)
        patch.setattr(sessions, "time", _Time)
        patch.setattr(sessions, "resolve", resolve)
        try:
            yield
        finally:
            random.setstate(state)
