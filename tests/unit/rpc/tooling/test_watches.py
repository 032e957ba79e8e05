"""Watches over a control plane in memory, and the stream of another replica that the test writes."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.domain.facts import ModuleState
from controlplane.domain.identity import ModuleKey
from controlplane.domain.remarks import Remark
from controlplane.rpc.tooling.events import WAITING
from controlplane.rpc.tooling.replicas import SYNC_WITHIN
from controlplane.rpc.tooling.watches import differences
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import Refused, call, tooling, vnode

pytestmark = pytest.mark.looptime

ADDED, MODIFIED, DELETED = pb.CHANGE_TYPE_ADDED, pb.CHANGE_TYPE_MODIFIED, pb.CHANGE_TYPE_DELETED
THEIRS = "vnode.b9.dev"


class Watching:
    """Reads a watch in the background."""

    def __init__(self, stream: AsyncGenerator[Any, None]) -> None:
        self.messages: list[Any] = []
        self._task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: AsyncGenerator[Any, None]) -> None:
        try:
            while True:
                message = await anext(stream)
                self.messages.append(message)
        except asyncio.CancelledError:
            await stream.aclose()
            raise
        except StopAsyncIteration:
            pass

    async def news(self, after: float = 1.0) -> list[Any]:
        """Return the messages since the last call."""
        await asyncio.sleep(after)
        messages, self.messages = self.messages, []
        return messages

    async def end(self) -> None:
        """Cancel the call."""
        self._task.cancel()
        await asyncio.wait([self._task])


def shown(messages: list[Any]) -> list[tuple[int, str] | list[str]]:
    return [
        (one.type, one.module.name) if one.HasField("module") else list(one.unreachable_replicas) for one in messages
    ]


def test_differences_are_added_modified_and_deleted() -> None:
    before = {"a": pb.VNode(name="a"), "b": pb.VNode(name="b"), "c": pb.VNode(name="c")}
    after = {"b": pb.VNode(name="b", modules=1), "c": pb.VNode(name="c"), "d": pb.VNode(name="d")}
    found = {(change, item.name) for change, item in differences(before, after)}
    assert found == {(MODIFIED, "b"), (ADDED, "d"), (DELETED, "a")}


async def test_items_come_first_then_the_mark_then_changes_of_both() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "other") as served:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        watch = Watching(served.servicer.WatchModules(pb.WatchModulesRequest(), call()))
        assert await watch.news(0.5) == [], "nothing comes by halves before the others had their time"
        stream, theirs = served.network.last("other"), pb.Module(vnode=THEIRS, name="theirs")
        stream.send(vnode(THEIRS, theirs))
        stream.sync()
        assert shown(await watch.news()) == [(ADDED, "biz1"), (ADDED, "theirs"), []]
        stream.send(vnode(THEIRS))
        assert shown(await watch.news()) == [(DELETED, "theirs")]
        stage.put_pod("q", module="biz2")
        assert (ADDED, "biz2") in shown(await watch.news(5.0))
        served.network.members.become()
        assert shown(await watch.news()) == []
        await watch.end()


async def test_one_that_hangs_delays_the_beginning_by_the_deadline_and_is_named_until_it_answers() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "hung") as served:
        stage.bases.add("b1")
        await asyncio.sleep(1.0)
        watch = Watching(served.servicer.WatchVNodes(pb.WatchVNodesRequest(), call()))
        assert await watch.news(SYNC_WITHIN - 0.1) == []
        first, mark = await watch.news(0.2)
        assert (first.vnode.base, list(mark.unreachable_replicas)) == ("b1", ["hung"])
        served.network.last("hung").sync()
        (mark,) = await watch.news()
        assert (mark.HasField("vnode"), list(mark.unreachable_replicas)) == (False, [])
        await watch.end()


async def test_a_watch_keeps_the_streams_open_and_leaves_nothing_behind() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "other") as served:
        watch = Watching(served.servicer.WatchVNodes(pb.WatchVNodesRequest(), call()))
        await asyncio.sleep(600.0)
        assert not served.network.last("other").cancelled
        await watch.end()
        assert served.index._watchers == 0
        await asyncio.sleep(120.0)
        assert served.network.last("other").cancelled


async def test_events_of_all_come_by_time_and_then_as_they_happen() -> None:
    def event(number: int, reason: str, seconds: int) -> rpb.FollowResponse:
        sent = pb.Event(reason=reason)
        sent.time.seconds = seconds
        return rpb.FollowResponse(event=rpb.ReplicaEvent(number=number, instance="i1", event=sent))

    async with Stage(Api()).running() as stage, tooling(stage, "other") as served:
        stage.bases.add("b1")
        await asyncio.sleep(1.0)
        watch = Watching(served.servicer.WatchEvents(pb.WatchEventsRequest(follow=True), call()))
        await asyncio.sleep(0.1)
        stream = served.network.last("other")
        stream.send(event(1, "New", 2_000_000_000), event(2, "Old", 1))
        stream.sync()
        assert [one.event.reason for one in await watch.news()] == ["Old", "VNodeCreated", "New", ""]
        stream.send(event(3, "Then", 3))
        stage.recorder.replica(Remark(True, "Ours", "it"))
        assert sorted(one.event.reason for one in await watch.news()) == ["Ours", "Then"]
        await watch.end()


async def test_a_list_of_events_ends() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as served:
        stage.bases.add("b1")
        await asyncio.sleep(1.0)
        stream = served.servicer.WatchEvents(pb.WatchEventsRequest(), call())
        assert [one.event.reason async for one in stream] == ["VNodeCreated", ""]


async def test_a_reader_of_events_that_falls_behind_is_cut_off() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as served:
        reading = served.servicer.WatchEvents(pb.WatchEventsRequest(follow=True), call())
        assert not (await anext(reading)).HasField("event"), "there are none yet"
        for number in range(WAITING):
            stage.recorder.replica(Remark(False, f"Event{number}", ""))
        messages = [await anext(reading) for _ in range(WAITING)]
        assert [one.event.reason for one in messages] == [f"Event{number}" for number in range(WAITING)]
        for number in range(WAITING + 1):
            stage.recorder.replica(Remark(False, f"Event{number}", ""))
        with pytest.raises(Refused, match="RESOURCE_EXHAUSTED"):
            await anext(reading)


async def test_events_that_happen_while_the_recent_ones_are_sent_come_after_them() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as served:
        stage.recorder.replica(Remark(False, "Before", ""))
        reading = served.servicer.WatchEvents(pb.WatchEventsRequest(follow=True), call())
        assert (await anext(reading)).event.reason == "Before"
        stage.recorder.replica(Remark(False, "Meanwhile", ""))
        assert not (await anext(reading)).HasField("event")
        assert (await anext(reading)).event.reason == "Meanwhile"


async def test_watches_end_with_the_replica_before_what_it_lets_go_of_is_seen() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "other") as served:
        stage.bases.modules[stage.bases.add("b1")][ModuleKey("biz1", "1")] = ModuleState.ACTIVATED
        await asyncio.sleep(20.0)
        begun = [
            served.servicer.WatchVNodes(pb.WatchVNodesRequest(), call()),
            served.servicer.WatchModules(pb.WatchModulesRequest(), call()),
            served.servicer.WatchEvents(pb.WatchEventsRequest(follow=True), call()),
        ]
        ended = [asyncio.create_task(_until_ending(stream)) for stream in begun]
        await asyncio.sleep(0.01)
        served.network.last("other").sync()
        await asyncio.sleep(1.0)
        served.network.members.become("new")
        late = asyncio.create_task(_until_ending(served.servicer.WatchVNodes(pb.WatchVNodesRequest(), call())))
        await asyncio.sleep(1.0)
        served.index.end()
        await stage.fleet.retire()
        vnodes, modules, events = await asyncio.gather(*ended)
        assert [one.vnode.modules for one in vnodes if one.HasField("vnode")] == [1]
        assert [one.module.state for one in modules if one.HasField("module")] == ["ACTIVATED"]
        assert not events[-1].HasField("event")
        assert await late == [], "one whose beginning was not sent yet sends nothing"
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await anext(served.servicer.WatchVNodes(pb.WatchVNodesRequest(), call()))


async def _until_ending(stream: AsyncGenerator[Any, None]) -> list[Any]:
    messages = []

    async def read() -> None:
        while True:
            messages.append(await anext(stream))

    with pytest.raises(Refused, match="UNAVAILABLE"):
        await read()
    return messages


async def test_modules_are_unknown_and_not_absent_until_they_are_listed() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as served:
        base = stage.bases.add("b1")
        stage.put_pod("p", base="b1")
        await asyncio.sleep(20.0)
        stage.disconnect()
        vnode, _ = await Watching(served.servicer.WatchVNodes(pb.WatchVNodesRequest(), call())).news()
        module, _ = await Watching(served.servicer.WatchModules(pb.WatchModulesRequest(), call())).news()
        assert (vnode.vnode.modules, vnode.vnode.modules_unknown, module.module.state) == (1, False, "ACTIVATED")
    stage.bases.silence(base)
    async with Stage(stage.api).running() as restarted, tooling(restarted) as served:
        restarted.bases.add("b1")
        restarted.bases.silence(base)
        await asyncio.sleep(2.0)
        vnode, _ = await Watching(served.servicer.WatchVNodes(pb.WatchVNodesRequest(), call())).news()
        module, _ = await Watching(served.servicer.WatchModules(pb.WatchModulesRequest(), call())).news()
        assert (vnode.vnode.modules_unknown, module.module.state) == (True, "UNKNOWN")
