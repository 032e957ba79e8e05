"""Each order is carried out once, and has one outcome."""

import asyncio

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.orders import GRACE, Orders
from tests.unit.gateways import said

pytestmark = pytest.mark.looptime


class Scene:
    """Orders, a tunnel that carries one out when the test says so, and what was sent to replicas."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, pb.OrderResult]] = []
        self.executed: list[str] = []
        self.go = asyncio.Event()
        self.orders = Orders(self.send)

    def send(self, replica: str, report: pb.Report) -> None:
        assert report.base_id == "b"
        self.sent.append((replica, report.order_result))

    async def execute(self, order: pb.Order) -> pb.OrderResult:
        self.executed.append(order.order_id)
        await self.go.wait()
        return pb.OrderResult(reply=said.reply())

    async def take(self, order_id: str, replica: str = "r1") -> None:
        self.orders.take(replica, said.order(order_id, pb.VERB_INSTALL, "biz1"), self.execute)
        await asyncio.sleep(0)

    async def finish(self) -> None:
        self.go.set()
        await asyncio.sleep(0.1)
        self.go.clear()


async def test_the_same_id_is_carried_out_once() -> None:
    scene = Scene()
    await scene.take("o", "r1")
    await scene.take("o", "r2")
    await scene.finish()
    assert scene.sent == [("r2", said.result("o").order_result)], "the replica that asked last gets the outcome"
    await scene.take("o", "r1")
    assert scene.sent[1:] == [("r1", said.result("o").order_result)]
    assert scene.executed == ["o"]


async def test_open_and_finished_orders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.session.orders.MAX_OPEN", 2)
    monkeypatch.setattr("gateways.session.orders.MAX_DONE", 2)
    scene = Scene()
    for order_id in "abc":
        await scene.take(order_id)
    assert scene.executed == ["a", "b"]
    ((_, refused),) = scene.sent
    assert (refused.order_id, refused.refused.reason) == ("c", pb.REFUSAL_REASON_BUSY)
    await scene.finish()
    await scene.take("c")
    await scene.finish()
    await scene.take("b")
    await scene.take("a")
    assert scene.executed == ["a", "b", "c", "a"], "the oldest of the outcomes is forgotten"
    await scene.orders.cancel()


async def test_on_close_unfinished_orders_are_unknown_and_none_is_begun() -> None:
    scene = Scene()
    await scene.take("o")
    ending = asyncio.create_task(scene.orders.close(timeout=1.0))
    await asyncio.sleep(0.5)
    await scene.take("late")
    await scene.take("o", "r2")
    await ending
    assert [(replica, result.order_id, result.WhichOneof("outcome")) for replica, result in scene.sent] == [
        ("r1", "late", "refused"),
        ("r2", "o", "unknown"),
    ]


async def test_an_order_that_hangs_is_unknown() -> None:
    scene = Scene()
    await scene.take("o")
    await asyncio.sleep(60 + GRACE + 1)
    ((_, result),) = scene.sent
    assert result.unknown.message == "no outcome within 60 s"


async def test_a_defect_with_one_order_is_its_outcome() -> None:
    scene = Scene()

    async def defect(_: pb.Order) -> pb.OrderResult:
        raise KeyError("defect")

    scene.orders.take("r1", said.order("o", pb.VERB_INSTALL, "biz1"), defect)
    await asyncio.sleep(0.1)
    ((_, result),) = scene.sent
    assert result.unknown.message == "the gateway failed: KeyError"
