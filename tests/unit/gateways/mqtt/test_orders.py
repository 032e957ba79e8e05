"""Each answer goes to the order that it belongs to."""

import asyncio
from contextlib import AbstractContextManager

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.envelopes import Operation
from gateways.mqtt.orders import CONFLICT_HOLD, Outcomes, Pending
from gateways.session.orders import of_order, unknown
from mqttclient.failures import Lost
from mqttclient.receipts import Acknowledgements, Receipt
from tests.unit.gateways import said

pytestmark = pytest.mark.looptime

DONE = said.reply("SUCCESS", "SUCCESS")
FAILED = said.reply("FAILED", "FAILED", message="x")
CONFLICT = said.reply("FAILED", message="installBiz conflict, exist unfinished command(installBiz) for this biz")


class Scene:
    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.queue = Acknowledgements(self.acknowledged.append)
        self.receipts: dict[str, Receipt] = {}
        self.pending = Pending(self.receipts.__setitem__)
        self.mid = 0

    def wait(self, order_id: str = "o1") -> AbstractContextManager[asyncio.Future[pb.Reply]]:
        return self.pending.wait(said.order(order_id, pb.VERB_INSTALL, "biz", base="a"))

    def answer(self, reply: pb.Reply, *, made_at: float | None = None, version: str = "1", base: str = "a") -> bool:
        self.mid += 1
        receipt = self.queue.received(self.mid)
        taken = self.pending.answer(base, Operation(pb.VERB_INSTALL, "biz", version, reply), made_at, receipt)
        if not taken:
            receipt.settle()
        return taken


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_an_answer_finds_its_order_and_keeps_its_receipt(scene: Scene) -> None:
    with scene.wait() as waiting:
        assert not scene.answer(DONE, version="2")
        assert not scene.answer(DONE, base="b")
        assert scene.answer(DONE)
        assert await waiting == DONE
    assert scene.acknowledged == [1, 2]
    scene.receipts["o1"].settle()
    assert scene.acknowledged == [1, 2, 3]


async def test_the_newest_of_equal_orders_gets_the_answer(scene: Scene) -> None:
    with (
        scene.wait("o1") as first,
        scene.wait("o2") as second,
        scene.wait("o3") as third,
    ):
        with pytest.raises(Lost):
            await second
        assert not first.done()
        assert scene.answer(DONE)
        assert await third == DONE
        assert scene.receipts.keys() == {"o3"}
    assert not scene.pending._orders


async def test_the_answer_after_the_refusal_of_a_second_order_is_for_the_first(scene: Scene) -> None:
    with scene.wait("o1") as first:
        with scene.wait("o2") as second:
            assert scene.answer(CONFLICT)
            assert await second == CONFLICT
        assert scene.answer(FAILED)
        assert await first == FAILED


async def test_the_real_answer_replaces_a_conflict(scene: Scene) -> None:
    with scene.wait() as waiting:
        assert scene.answer(CONFLICT)
        asyncio.get_running_loop().call_later(CONFLICT_HOLD - 1, scene.answer, FAILED)
        assert await waiting == FAILED


async def test_a_conflict_alone_is_the_answer_after_a_while(scene: Scene) -> None:
    began = asyncio.get_running_loop().time()
    with scene.wait() as waiting:
        assert scene.answer(CONFLICT)
        asyncio.get_running_loop().call_later(3, scene.answer, CONFLICT)
        assert await waiting == CONFLICT
    assert scene.acknowledged == [1, 2], "a receipt that is held for so long must not block other messages"
    assert not scene.receipts
    assert asyncio.get_running_loop().time() - began == pytest.approx(CONFLICT_HOLD)


async def test_a_message_from_before_the_order_is_not_its_answer(scene: Scene) -> None:
    await asyncio.sleep(100)
    with scene.wait() as waiting:
        assert not scene.answer(FAILED, made_at=90)
        assert scene.answer(DONE, made_at=99.9)
        assert await waiting == DONE


async def test_a_second_answer_is_not_taken(scene: Scene) -> None:
    with scene.wait():
        assert scene.answer(DONE)
        assert not scene.answer(FAILED)


async def test_the_receipt_of_an_answer_that_nobody_took_goes_with_the_outcome_of_its_order(scene: Scene) -> None:
    outcomes = Outcomes(lambda _: True)
    scene.pending = Pending(outcomes.wait)
    with scene.wait():
        scene.answer(DONE)
    assert scene.acknowledged == []
    outcomes.settled(of_order(said.order("o1"), unknown("no answer within 1 s")))
    assert scene.acknowledged == [1]


async def test_an_interruption_ends_all_waits(scene: Scene) -> None:
    with scene.wait() as waiting:
        scene.pending.interrupt("gone")
        with pytest.raises(Lost, match="gone"):
            await waiting


async def test_a_cancelled_wait_leaves_nothing_behind(scene: Scene) -> None:
    async def wait() -> None:
        with scene.wait() as waiting:
            await waiting

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait(), 1)
    assert not scene.pending._orders
    assert not scene.answer(DONE)
