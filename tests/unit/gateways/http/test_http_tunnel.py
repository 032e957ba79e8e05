"""An address over HTTP without a port has the default one, in a heartbeat, a Watch or an Order."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.http.arklet_client import Answer
from gateways.http.credentials import Caller
from gateways.http.requests import Requests
from gateways.http.tunnel import HttpTunnel
from service.addresses import DEFAULT_NETWORKS, AddressPolicy
from service.refusals import RequestRefused
from tests.unit.gateways import said
from tests.unit.gateways.answers import received

pytestmark = pytest.mark.looptime

IP = "10.0.0.1"
HEARTBEAT = b'{"baseMetadata":{"identity":"a"},"localIP":"10.0.0.1"}'


class Scene:
    """A tunnel, and a base with an empty list of modules."""

    def __init__(self) -> None:
        self.called: list[tuple[str, int, str]] = []
        policy = AddressPolicy(DEFAULT_NETWORKS)
        self.tunnel = HttpTunnel(self.call, policy, self.report, polls=8, health_timeout=5, query_timeout=10)
        self.requests = Requests(self.report, self.baseline, self.tunnel.prober, policy, "dev")

    def call(
        self, address: pb.Address, command: str, body: bytes, timeout: float
    ) -> AbstractAsyncContextManager[Answer]:
        return received(self.body(address, command))

    async def body(self, address: pb.Address, command: str) -> bytes:
        self.called.append((address.ip, address.port, command))
        return b'{"code":"SUCCESS","data":[]}'

    def report(self, report: pb.Report) -> bool:
        return True

    async def baseline(self, query: pb.Report) -> list[pb.ModuleRef]:
        return []


async def test_a_watch_and_an_order_without_a_port_use_the_default_port_of_arklet() -> None:
    scene = Scene()
    scene.tunnel.watch(said.watch("a", IP, 0))
    await asyncio.sleep(1)
    for verb in (pb.VERB_INSTALL, pb.VERB_BATCH_INSTALL):
        await scene.tunnel.execute(said.order("o1", verb, "biz1", base="a", ip=IP))
    assert {(ip, port) for ip, port, _ in scene.called} == {(IP, 1238)}
    assert {command for *_, command in scene.called} == {"queryAllBiz", "health", "installBiz", "help"}
    await scene.tunnel.prober.close()


async def test_a_heartbeat_without_a_port_matches_a_watch_without_one() -> None:
    scene = Scene()
    scene.tunnel.watch(said.watch("a", IP, 0))
    await asyncio.sleep(1)
    assert await scene.requests.heartbeat(HEARTBEAT, Caller()) == b"SUCCESS"
    with pytest.raises(RequestRefused, match=r"alive at 10\.0\.0\.1:1238"):
        await scene.requests.heartbeat(HEARTBEAT[:-1] + b',"port":1239}', Caller())
    await scene.tunnel.prober.close()
