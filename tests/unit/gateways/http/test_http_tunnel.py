"""An address over HTTP that names no port, wherever it comes from: a heartbeat, a Watch or an Order."""

from __future__ import annotations

import asyncio

import pytest

from gateways.arklet.facts import BaselineModule, Metadata, ModuleOrder, Verb
from gateways.http.offers import Offers
from gateways.http.questions import HttpQuestions
from gateways.http.requests import Refusal, Requests
from gateways.http.slots import Slots
from gateways.http.tunnel import HttpTunnel
from gateways.polling.prober import Prober
from gateways.session.messages import Address, Fact, Order, Watch
from service.addresses import DEFAULT_NETWORKS, AddressPolicy

pytestmark = pytest.mark.looptime

WITHOUT_PORT, HERE = Address("10.0.0.1", 0), Address("10.0.0.1", 1238)
WATCH = Watch("a", 1, WITHOUT_PORT, 1, modules_interval=15, health_interval=30, silent_health_interval=10)
BEAT = b'{"baseMetadata":{"identity":"a"},"localIP":"10.0.0.1"}'


class Scene:
    """A tunnel, and a base with an empty list of modules; implements ``Caller`` and ``ControlPlane``."""

    def __init__(self) -> None:
        self.called: list[tuple[Address, Verb]] = []
        policy = AddressPolicy(DEFAULT_NETWORKS)
        questions = HttpQuestions(self, Slots(8), policy, health_timeout=5, query_timeout=10)
        self.prober = Prober(questions, self.report)
        self.tunnel = HttpTunnel(self, Offers(self, timeout=5), self.prober, policy, self.report)
        self.requests = Requests(self, self.prober, policy, "dev")

    async def call(self, address: Address, verb: Verb, body: bytes, *, timeout: float) -> bytes:
        self.called.append((address, verb))
        return b'{"code":"SUCCESS","data":[]}'

    def report(self, base: str, fact: Fact) -> bool:
        return True

    async def baseline(self, metadata: Metadata) -> tuple[BaselineModule, ...]:
        return ()


async def test_a_watch_and_an_order_without_a_port_mean_the_port_where_arklet_listens_first() -> None:
    scene = Scene()
    scene.tunnel.watch(WATCH)
    await asyncio.sleep(1)
    module = ModuleOrder("biz1", "1", "http://repo.example/biz1.jar")
    for verb in (Verb.INSTALL, Verb.BATCH_INSTALL):
        await scene.tunnel.execute(Order("o1", 1, "a", WITHOUT_PORT, verb, (module,), 5.0))
    assert {address for address, _ in scene.called} == {HERE}
    assert {verb for _, verb in scene.called} == {Verb.QUERY_MODULES, Verb.HEALTH, Verb.INSTALL, Verb.HELP}
    await scene.prober.close()


async def test_a_heartbeat_without_a_port_is_of_the_base_that_is_watched_without_one() -> None:
    scene = Scene()
    scene.tunnel.watch(WATCH)
    await asyncio.sleep(1)
    assert await scene.requests.heartbeat(BEAT) == b"SUCCESS"
    with pytest.raises(Refusal, match=r"alive at 10\.0\.0\.1:1238"):
        await scene.requests.heartbeat(BEAT[:-1] + b',"port":1239}')
    await scene.prober.close()
