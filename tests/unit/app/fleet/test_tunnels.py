"""A base over two tunnels is one VNode, managed over the tunnel that shows it alive."""

import asyncio

import pytest

from controlplane.domain.base.hearing import Heard
from controlplane.domain.base.vnode import NO_ADDRESS
from controlplane.domain.facts import (
    Address,
    BaseState,
    BatchInstalled,
    Health,
    Heartbeat,
    ModuleList,
    OrderResult,
    Reply,
    ReplyCode,
    TunnelKind,
)
from controlplane.domain.identity import BaseId
from tests.fakes.gateway import FakeLink
from tests.unit.app.harness import ADDRESS, Api, Stage

pytestmark = pytest.mark.looptime

NO_PORT = Address("10.0.0.7", 0)


def heartbeat(address: Address) -> Heartbeat:
    return Heartbeat("shop", "1.0.0", "default", "shop-0", address, BaseState.ACTIVATED)


async def over_both(stage: Stage, mqtt: FakeLink, seconds: float, *, http: bool = True) -> None:
    """Send heartbeats of the base over MQTT, and over HTTP too if ``http``, for so many seconds."""
    for _ in range(int(seconds / 5)):
        stage.router.report(mqtt, BaseId("b1"), heartbeat(NO_PORT))
        if http:
            stage.router.report(stage.link, BaseId("b1"), heartbeat(ADDRESS))
        await asyncio.sleep(5.0)


async def test_a_base_over_both_tunnels_is_one_vnode_and_keeps_its_tunnel() -> None:
    async with Stage(Api()).running() as stage:
        mqtt = FakeLink("mqtt", tunnel=TunnelKind.MQTT)
        stage.gateways.connected(mqtt)
        await over_both(stage, mqtt, 100.0)
        (base,) = stage.roster.bases()
        fewer, more = sorted((len(stage.link.watches), len(mqtt.watches)))
        assert fewer == 0
        assert more >= 1
        assert base.profile.address == ADDRESS


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "tunnel down"])
@pytest.mark.parametrize(
    ("since", "late", "gone"), [(0.0, 0.5, True), (0.0, 20.0, False), (23.0, 0.5, False)], ids=["whole", "late", "gap"]
)
async def test_a_gap_does_not_close_because_its_gateway_goes(since: float, late: float, gone: bool, lost: bool) -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        other = FakeLink("other")
        stage.gateways.connected(other)
        await asyncio.sleep(5.0)
        stage.bases.silence(base)
        now = asyncio.get_running_loop().time()
        other.heard = Heard(now + since if since else 0.0, now + 24.0 - late)
        await asyncio.sleep(24.0)
        if lost:
            stage.gateways.lost(other)
        else:
            stage.gateways.tunnel_state(other, up=False, reason="it has no broker")
        await asyncio.sleep(5.0)
        assert (stage.ready("node", "b1") == "False") is gone
        await asyncio.sleep(25.0)
        assert stage.ready("node", "b1") == "False"


async def test_when_one_tunnel_is_lost_the_other_takes_over_at_once() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        mqtt = FakeLink("mqtt", tunnel=TunnelKind.MQTT, on_order=stage.bases.on_order)
        stage.gateways.connected(mqtt)
        await over_both(stage, mqtt, 10.0)
        (base,) = stage.roster.bases()
        assert base.profile.tunnel.value == "http"
        stage.disconnect()
        await over_both(stage, mqtt, 5.0, http=False)
        (base,) = stage.roster.bases()
        assert base.profile.tunnel.value == "mqtt"
        assert base.profile.address == ADDRESS
        assert mqtt.watches[-1].base == "b1"
        assert stage.ready("node", "b1") == "True"
        stage.router.report(
            mqtt, BaseId("b1"), ModuleList((), complete=True, unchanged=False, epoch=mqtt.watches[-1].epoch)
        )
        stage.put_pod("p")
        await asyncio.sleep(1.0)
        assert [order.modules[0].key.name for order in mqtt.orders] == ["biz1"]
        stage.router.report(mqtt, BaseId("b1"), OrderResult(mqtt.orders[0].order_id, Reply(ReplyCode.SUCCESS)))
        await over_both(stage, mqtt, 100.0, http=False)
        assert stage.ready("node", "b1") == "True"


async def test_a_base_that_is_silent_on_one_tunnel_is_managed_over_the_other() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        mqtt = FakeLink("mqtt", tunnel=TunnelKind.MQTT)
        stage.gateways.connected(mqtt)
        await over_both(stage, mqtt, 20.0)
        stage.bases.silence(base)
        await over_both(stage, mqtt, 60.0, http=False)
        assert mqtt.watches[-1].base == "b1"
        assert stage.ready("node", "b1") == "True"


@pytest.mark.parametrize("address", [NO_PORT, NO_ADDRESS], ids=str)
async def test_a_restarted_control_plane_uses_the_tunnel_that_the_node_shows(address: Address) -> None:
    api = Api()
    async with Stage(api).running() as stage:
        mqtt = FakeLink("mqtt", tunnel=TunnelKind.MQTT)
        stage.gateways.connected(mqtt)
        stage.router.report(mqtt, BaseId("b1"), heartbeat(address))
        await asyncio.sleep(1.0)
        stage.router.report(mqtt, BaseId("b1"), Health(BaseState.ACTIVATED, None, "17"))
        await asyncio.sleep(4.0)
    async with Stage(api).running() as stage:
        mqtt = FakeLink("mqtt", tunnel=TunnelKind.MQTT)
        stage.gateways.connected(mqtt)
        await asyncio.sleep(2.0)
        assert mqtt.watches[-1].base == "b1"
        assert list(stage.link.watches) == []


async def test_a_failed_baseline_is_reported_and_the_modules_are_asked_for_again() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        epoch = stage.link.watches[-1].epoch
        failed = Reply(ReplyCode.FAILED, message="internal exception: no route")
        batch = BatchInstalled(failed, (("https://repo.example/a.jar", failed), ("u", Reply(ReplyCode.SUCCESS))))
        stage.router.report(stage.link, BaseId("b1"), batch)
        await asyncio.sleep(1.0)
        assert stage.reasons().count("BaselineInstallFailed") == 1
        assert stage.link.watches[-1].epoch == epoch + 1


async def test_no_order_is_sent_before_the_base_is_seen_after_its_tunnel_came_back() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.gateways.tunnel_state(stage.link, up=False, reason="the broker is away")
        stage.put_pod("p")
        stage.bases.silence(base)
        await asyncio.sleep(5.0)
        stage.gateways.tunnel_state(stage.link, up=True, reason="")
        await asyncio.sleep(5.0)
        assert stage.link.orders == []
        stage.bases.add("b1")
        await asyncio.sleep(1.0)
        assert [order.modules[0].key.name for order in stage.link.orders] == ["biz1"]
        assert stage.ready("pod", "p") == "True"
