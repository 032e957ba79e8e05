"""Watches over a control plane in memory and the streams of another replica, written by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.tooling.operations import Operations
from controlplane.app.tooling.shards import Shards
from controlplane.domain.facts import ModuleState
from controlplane.domain.identity import ModuleKey
from controlplane.rpc.refusals import Ending
from controlplane.rpc.tooling.deadlines import FOR_OTHERS
from controlplane.rpc.tooling.watches import Watches
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import FakeOthers, Network, failure

pytestmark = pytest.mark.looptime

ADDED, DELETED = pb.CHANGE_TYPE_ADDED, pb.CHANGE_TYPE_DELETED


class Wired(FakeOthers):
    """Others whose watches are all streams of one network."""

    network: Network[Any]

    def stub(self, address: str) -> Any:
        method = self.network.method(address)
        return SimpleNamespace(WatchVNodes=method, WatchModules=method, WatchEvents=method)


def watches(running: Stage, network: Network[Any]) -> Watches:
    others = Wired(network.members)
    others.network = network
    return Watches(
        operations=Operations(running.cluster, running.roster, env="dev"),
        roster=running.roster,
        recorder=running.recorder,
        shards=Shards(running.cluster, running.members, env="dev"),
        others=others,
    )


def network(*names: str) -> Network[Any]:
    found: Network[Any] = Network(*names)
    found.members.me = "replica-0"
    found.members.become(*names)
    return found


class Reader:
    """Reads a watch in the background."""

    def __init__(self, stream: AsyncGenerator[Any, None]) -> None:
        self.told: list[Any] = []
        self._task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: AsyncGenerator[Any, None]) -> None:
        try:
            while True:
                message = await anext(stream)
                self.told.append(message)
        except asyncio.CancelledError:
            await stream.aclose()
            raise
        except StopAsyncIteration:
            pass

    async def news(self, after: float = 1.0) -> list[Any]:
        """Return what was told since the last time."""
        await asyncio.sleep(after)
        told, self.told = self.told, []
        return told

    async def end(self) -> None:
        """Cancel the call."""
        self._task.cancel()
        await asyncio.wait([self._task])


def shown(told: list[Any]) -> list[tuple[int, str] | list[str]]:
    return [(one.type, one.module.name) if one.HasField("module") else list(one.unreachable_replicas) for one in told]


async def test_what_another_replica_tells_is_relayed_and_its_stream_ends_with_the_call() -> None:
    async with Stage(Api()).running() as running:
        running.bases.add("b1")
        running.put_pod("p")
        wire = network("other")
        reader = Reader(watches(running, wire).modules(pb.WatchModulesRequest(), own=False))
        assert await reader.news(0.5) == [], "nothing is told by halves before the others had their time"
        theirs = pb.Module(vnode="vnode.b9.dev", name="theirs")
        wire.last("other").tell(pb.WatchModulesResponse(type=ADDED, module=theirs), pb.WatchModulesResponse())
        assert shown(await reader.news()) == [(ADDED, "biz1"), (ADDED, "theirs"), []]
        wire.last("other").tell(pb.WatchModulesResponse(type=DELETED, module=theirs))
        assert shown(await reader.news()) == [(DELETED, "theirs")]
        wire.last("other").tell(failure(grpc.StatusCode.UNAVAILABLE))
        await reader.end()
        await asyncio.sleep(30)
        assert all(stream.cancelled for stream in wire.opened)
        opened = len(wire.opened)
        await asyncio.sleep(30)
        assert len(wire.opened) == opened


async def test_one_that_hangs_delays_the_beginning_by_the_deadline_and_is_named() -> None:
    async with Stage(Api()).running() as running:
        running.bases.add("b1")
        await asyncio.sleep(1)
        wire = network("hung")
        reader = Reader(watches(running, wire).vnodes(pb.WatchVNodesRequest(), own=False))
        assert await reader.news(FOR_OTHERS - 0.1) == []
        first, mark = await reader.news(0.2)
        assert (first.vnode.base, list(mark.unreachable_replicas)) == ("b1", ["hung"])
        await reader.end()
        await asyncio.sleep(0.1)
        assert wire.last("hung").cancelled


async def test_own_is_told_at_once_and_asks_nobody() -> None:
    async with Stage(Api()).running() as running:
        running.bases.add("b1")
        await asyncio.sleep(1)
        wire = network("other")
        reader = Reader(watches(running, wire).vnodes(pb.WatchVNodesRequest(), own=True))
        first, mark = await reader.news(0.01)
        assert (first.vnode.base, mark.HasField("vnode"), wire.opened) == ("b1", False, [])
        await reader.end()


async def test_events_of_all_come_by_time_and_then_as_they_happen() -> None:
    async with Stage(Api()).running() as running:
        running.bases.add("b1")
        await asyncio.sleep(1)
        wire = network("other")
        old, new = pb.Event(reason="Old"), pb.Event(reason="New")
        old.time.seconds, new.time.seconds = 1, 2_000_000_000
        reader = Reader(watches(running, wire).events(pb.WatchEventsRequest(follow=True), own=False))
        await asyncio.sleep(0.1)
        wire.last("other").tell(
            pb.WatchEventsResponse(event=new), pb.WatchEventsResponse(event=old), pb.WatchEventsResponse()
        )
        told = await reader.news()
        assert [one.event.reason for one in told] == ["Old", "VNodeCreated", "New", ""]
        wire.last("other").tell(pb.WatchEventsResponse(event=pb.Event(reason="Then")))
        running.recorder.replica(warning=True, reason="Ours", message="it")
        assert sorted(one.event.reason for one in await reader.news()) == ["Ours", "Then"]
        await reader.end()
        await asyncio.sleep(0.1)
        assert wire.last("other").cancelled


async def test_a_list_of_events_ends() -> None:
    async with Stage(Api()).running() as running:
        running.bases.add("b1")
        await asyncio.sleep(1)
        stream = watches(running, network()).events(pb.WatchEventsRequest(), own=False)
        assert [one.event.reason async for one in stream] == ["VNodeCreated", ""]


async def test_watches_end_with_the_replica_before_what_it_lets_go_of_is_told() -> None:
    async with Stage(Api()).running() as running:
        running.bases.modules[running.bases.add("b1")][ModuleKey("biz1", "1")] = ModuleState.ACTIVATED
        await asyncio.sleep(20)
        wire = network("other")
        served = watches(running, wire)
        begun = [
            served.vnodes(pb.WatchVNodesRequest(), own=True),
            served.modules(pb.WatchModulesRequest(), own=True),
            served.events(pb.WatchEventsRequest(follow=True), own=True),
        ]
        ended = [asyncio.create_task(_until_ending(stream)) for stream in begun]
        late = asyncio.create_task(_until_ending(served.vnodes(pb.WatchVNodesRequest(), own=False)))
        await asyncio.sleep(1)
        served.end()
        await running.fleet.retire()
        vnodes, modules, events = await asyncio.gather(*ended)
        assert [one.vnode.modules for one in vnodes if one.HasField("vnode")] == [1]
        assert [one.module.state for one in modules if one.HasField("module")] == ["ACTIVATED"]
        assert events[-1] == pb.WatchEventsResponse()
        assert await late == [], "one whose beginning was not told yet tells nothing any more"
        with pytest.raises(Ending):
            await anext(served.vnodes(pb.WatchVNodesRequest(), own=True))


async def _until_ending(stream: AsyncGenerator[Any, None]) -> list[Any]:
    told = []
    try:
        while True:
            told.append(await anext(stream))
    except Ending:
        return told


async def test_a_watch_that_ends_leaves_no_task_behind() -> None:
    async with Stage(Api()).running() as running:
        await asyncio.sleep(1)
        wire = network("a", "b")
        before = asyncio.all_tasks()
        stream = watches(running, wire).vnodes(pb.WatchVNodesRequest(), own=False)
        beginning = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.1)
        for name in ("a", "b"):
            wire.last(name).tell(pb.WatchVNodesResponse())
        await beginning
        assert {task.get_name() for task in asyncio.all_tasks() - before} >= {"relay-a", "relay-b"}
        wire.members.become("b")
        await stream.aclose()
        assert {task.get_name() for task in asyncio.all_tasks()} & {"relay-a", "relay-b"} == set()


async def test_a_defect_in_what_follows_another_replica_ends_the_watch() -> None:
    async with Stage(Api()).running() as running:
        await asyncio.sleep(1)
        wire = network("a")
        stream = watches(running, wire).vnodes(pb.WatchVNodesRequest(), own=False)
        beginning = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.1)
        wire.last("a").tell(pb.WatchVNodesResponse(), AssertionError("a defect"))
        await beginning
        with pytest.raises(AssertionError, match="a defect"):
            await anext(stream)


async def test_what_a_base_has_is_unknown_until_it_tells_not_absent() -> None:
    async with Stage(Api()).running() as running:
        base = running.bases.add("b1")
        running.put_pod("p", base="b1")
        await asyncio.sleep(20)
        running.disconnect()
        served = watches(running, network())
        vnodes = Reader(served.vnodes(pb.WatchVNodesRequest(), own=True))
        modules = Reader(served.modules(pb.WatchModulesRequest(), own=True))
        (vnode, _), (module, _) = await vnodes.news(), await modules.news()
        assert (vnode.vnode.modules, vnode.vnode.modules_unknown, module.module.state) == (1, False, "ACTIVATED")
        await vnodes.end()
        await modules.end()
    running.bases.silence(base)
    async with Stage(running.api).running() as restarted:
        restarted.bases.add("b1")
        restarted.bases.silence(base)
        await asyncio.sleep(2)
        served = watches(restarted, network())
        vnodes = Reader(served.vnodes(pb.WatchVNodesRequest(), own=True))
        modules = Reader(served.modules(pb.WatchModulesRequest(), own=True))
        (vnode, _), (module, _) = await vnodes.news(), await modules.news()
        assert (vnode.vnode.modules_unknown, module.module.state) == (True, "UNKNOWN")
        await vnodes.end()
        await modules.end()
