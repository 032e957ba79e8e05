"""A gateway is believed about a base only as far as it was asked, or given the order."""

import asyncio

import pytest

from controlplane.app.metrics import REFUSED_REPORTS
from controlplane.domain.base.sources import AHEAD, EARLIER_OWNERS, TERMS
from controlplane.domain.facts import (
    BaseState,
    BatchInstalled,
    Fact,
    FenceSeen,
    Health,
    Module,
    ModuleList,
    ModuleState,
    OrderResult,
    PollFailed,
    PollFailure,
    Reply,
    ReplyCode,
    TunnelKind,
    Verb,
)
from controlplane.domain.identity import BaseId, ModuleKey, OrderId
from controlplane.domain.ownership.lease import first_fence
from tests.fakes.gateway import FakeLink
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

ROGUE = FakeLink("rogue")
BASE = BaseId("b1")
DONE = Reply(ReplyCode.SUCCESS)


def refused(reason: str) -> float:
    return float(REFUSED_REPORTS.labels(reason)._value.get())


@pytest.mark.parametrize(
    "fact",
    [
        Health(BaseState.DEACTIVATED, None, ""),
        ModuleList((), complete=True, unchanged=False, epoch=1 << 40),
        PollFailed("no connection", failure=PollFailure.NOT_CONNECTED),
    ],
    ids=lambda fact: type(fact).__name__,
)
async def test_answers_count_only_from_the_gateway_that_asks(fact: Fact) -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        before, counted = stage.roster.get(BASE), refused("not-asked")
        for _ in range(20):
            stage.router.report(ROGUE, BASE, fact)
            await asyncio.sleep(1.0)
        after = stage.roster.get(BASE)
        assert before is not None
        assert after is not None
        assert after.modules.present == before.modules.present
        assert (after.phase, after.signs.failing, after.signs.leaving.said_at) == (before.phase, "", None)
        assert refused("not-asked") == counted + 20
        assert (stage.ready("node", "b1"), stage.ready("pod", "p")) == ("True", "True")


async def test_an_order_ends_by_the_word_of_the_gateway_that_has_it_and_no_other() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.bases.answer[Verb.INSTALL] = None
        await asyncio.sleep(5.0)
        stage.put_pod("p")
        await asyncio.sleep(1.0)
        (order,) = stage.link.orders
        for link in (ROGUE, FakeLink(stage.link.gateway_id, instance="2")):
            stage.router.report(link, BASE, OrderResult(order.order_id, DONE))
            await asyncio.sleep(0.1)
            assert _under_way(stage) == {order.order_id}
        stage.router.report(stage.link, BASE, OrderResult(order.order_id, DONE))
        await asyncio.sleep(0.1)
        assert _under_way(stage) == set()


@pytest.mark.parametrize(("waited", "ours"), [(5.0, True), (EARLIER_OWNERS + 5.0, False)])
async def test_what_earlier_owners_installed_is_said_by_any_gateway_only_at_first(waited: float, ours: bool) -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(waited)
        key = ModuleKey("kept", "1")
        installed = Reply(ReplyCode.SUCCESS, modules=(Module(key, ModuleState.ACTIVATED),))
        stage.router.report(ROGUE, BASE, OrderResult(OrderId("of-another-term"), installed))
        await asyncio.sleep(0.1)
        base = stage.roster.get(BASE)
        assert base is not None
        assert (key in base.modules.owned) is ours


async def test_a_baseline_went_well_only_where_a_gateway_of_its_tunnel_says_so() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        counted = refused("other-tunnel")
        stage.router.report(FakeLink("m", tunnel=TunnelKind.MQTT), BASE, BatchInstalled(DONE, ()))
        assert refused("other-tunnel") == counted + 1


async def test_a_fence_beyond_every_clock_begins_no_term() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        before, counted = _fence(stage), refused("fence")
        most = max(first_fence(stage.router.clock.wall(), 0) + AHEAD, before + TERMS)
        stage.router.report(ROGUE, BASE, FenceSeen(most + 1))
        await asyncio.sleep(1.0)
        assert (_fence(stage), refused("fence")) == (before, counted + 1)
        stage.router.report(ROGUE, BASE, FenceSeen(most))
        await asyncio.sleep(1.0)
        assert _fence(stage) == most + 1


def _under_way(stage: Stage) -> frozenset[OrderId]:
    base = stage.roster.get(BASE)
    assert base is not None
    return base.modules.orders()


def _fence(stage: Stage) -> int:
    base = stage.roster.get(BASE)
    assert base is not None
    return base.fence
