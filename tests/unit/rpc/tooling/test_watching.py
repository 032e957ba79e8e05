"""What a watch tells: items, then who is missing, then what changes of both."""

from __future__ import annotations

import asyncio

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.changes import Subscription
from controlplane.rpc.tooling.watches import TooSlow, Waiting
from controlplane.rpc.tooling.watching import News, Told, View, follow

pytestmark = pytest.mark.looptime


async def test_items_then_the_mark_then_changes() -> None:
    views = iter(
        [
            View({"a": pb.VNode(name="a"), "b": pb.VNode(name="b")}),
            View({"a": pb.VNode(name="a"), "b": pb.VNode(name="b", modules=1)}, ("r2",)),
            View({"b": pb.VNode(name="b", modules=1)}, ("r2",)),
            View({"b": pb.VNode(name="b", modules=1)}),
        ]
    )
    news = News(Subscription())
    told: list[Told[pb.VNode]] = []

    async def read() -> None:
        stream = follow(lambda: next(views), news)
        while True:
            told.append(await anext(stream))

    task = asyncio.create_task(read())
    for _ in range(3):
        await asyncio.sleep(1)
        news.changed()
    await asyncio.sleep(1)
    task.cancel()
    assert [(one.type, one.item.name if one.item else None, one.unreachable) for one in told] == [
        (pb.CHANGE_TYPE_ADDED, "a", ()),
        (pb.CHANGE_TYPE_ADDED, "b", ()),
        (pb.CHANGE_TYPE_UNSPECIFIED, None, ()),
        (pb.CHANGE_TYPE_MODIFIED, "b", ()),
        (pb.CHANGE_TYPE_UNSPECIFIED, None, ("r2",)),
        (pb.CHANGE_TYPE_DELETED, "a", ()),
        (pb.CHANGE_TYPE_UNSPECIFIED, None, ()),
    ]


async def test_a_reader_of_events_that_falls_behind_is_told_so() -> None:
    waiting = Waiting(most=2)
    assert waiting.recent() == []
    for number in range(3):
        waiting.put(pb.Event(reason=str(number)))
    with pytest.raises(TooSlow):
        await waiting.get()


async def test_nudges_do_not_pile_up() -> None:
    waiting = Waiting(most=10)
    waiting.nudge()
    assert waiting.recent() == []
    for _ in range(100):
        waiting.nudge()
    waiting.put(pb.Event(reason="A"))
    assert await waiting.get() is None
    event = await waiting.get()
    assert event is not None
    assert event.reason == "A"
