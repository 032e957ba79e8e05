"""Other replicas are followed: a state counts once it is complete, silence changes nothing, waits are short."""

import asyncio
from typing import Any

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.rpc.tooling import replicas
from controlplane.rpc.tooling.index import Index
from controlplane.rpc.tooling.replicas import IDLE
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import WITHIN, Tooling, failure, tooling, vnode

pytestmark = pytest.mark.looptime

N1, N2 = "vnode.n1.dev", "vnode.n2.dev"
AWAY = failure(grpc.StatusCode.UNAVAILABLE)


async def synced(running: Tooling, *names: str, **more: Any) -> None:
    """Let these replicas answer a sync."""
    asking = asyncio.create_task(running.links.sync(WITHIN))
    await asyncio.sleep(0.01)
    for name in names:
        running.network.last(name).sync(**more)
    await asking


async def known(running: Tooling) -> list[str]:
    return sorted(await running.index.entries())


async def test_the_only_replica_asks_and_waits_for_none() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        began = asyncio.get_running_loop().time()
        await running.links.sync(WITHIN)
        assert asyncio.get_running_loop().time() == began
        assert running.network.opened == []
        assert running.links.unreachable() == ()


async def test_a_state_counts_once_it_is_complete_and_changes_count_at_once() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        asking = asyncio.create_task(running.links.sync(WITHIN))
        await asyncio.sleep(0.01)
        stream = running.network.last("a")
        stream.send(vnode(N1))
        await asyncio.sleep(0.01)
        assert await known(running) == []
        assert not asking.done()
        stream.sync()
        await asking
        assert await known(running) == [N1]
        stream.send(vnode(N2), rpb.FollowResponse(gone=N1))
        await asyncio.sleep(0.01)
        assert await known(running) == [N2]
        assert running.links.unreachable() == ()


async def test_one_that_hangs_costs_the_deadline_and_is_named_until_it_answers() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a", "hung") as running:
        began = asyncio.get_running_loop().time()
        await synced(running, "a")
        assert asyncio.get_running_loop().time() - began == pytest.approx(WITHIN)
        assert running.links.unreachable() == ("hung",)
        await synced(running, "a", "hung")
        assert running.links.unreachable() == ()


async def test_one_without_an_address_is_named_at_once() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "mute?") as running:
        began = asyncio.get_running_loop().time()
        await running.links.sync(WITHIN)
        assert asyncio.get_running_loop().time() == began
        assert running.links.unreachable() == ("mute",)


async def test_a_broken_stream_is_opened_again_and_its_state_stays_until_then() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        await running.links.sync(0.01)
        running.network.last("a").send(vnode(N1))
        await synced(running, "a")
        running.network.last("a").send(AWAY)
        await asyncio.sleep(0.01)
        assert (await known(running), running.links.unreachable()) == ([N1], ("a",))
        await asyncio.sleep(1.0)
        assert len(running.network.opened) == 2
        running.network.last("a").send(vnode(N2))
        await asyncio.sleep(0.01)
        assert await known(running) == [N1], "what is there counts once it is complete"
        await synced(running, "a")
        assert (await known(running), running.links.unreachable()) == ([N2], ())


async def test_attempts_become_rarer_and_a_question_does_not_wait_for_the_next() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        with running.links.kept_open():
            await running.links.sync(0.01)
            for _ in range(8):
                running.network.last("a").send(AWAY)
                await asyncio.sleep(5.1)
            tries = len(running.network.opened)
            running.network.last("a").send(AWAY)
            await asyncio.sleep(0.5)
            assert len(running.network.opened) == tries, "it waits for seconds by now"
            await synced(running, "a")
            assert len(running.network.opened) == tries + 1
            assert running.links.unreachable() == ()


async def test_replicas_that_come_and_go_are_followed_as_long_as_somebody_asks() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        await running.links.sync(0.01)
        running.network.members.become("b")
        await asyncio.sleep(0.01)
        assert [stream.address for stream in running.network.opened] == ["a", "b"]
        assert running.network.last("a").cancelled
        await asyncio.sleep(2 * IDLE)
        assert running.network.last("b").cancelled
        opened = len(running.network.opened)
        await asyncio.sleep(IDLE)
        assert len(running.network.opened) == opened
        await synced(running, "b")
        assert len(running.network.opened) == opened + 1


async def test_one_that_sends_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "MOST_MODULES", 3)
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        await running.links.sync(0.01)
        modules = [pb.Module(vnode=N1, name=f"m{n}") for n in range(4)]
        running.network.last("a").send(vnode(N1, *modules))
        await asyncio.sleep(0.01)
        assert running.network.last("a").cancelled
        assert (await known(running), running.links.unreachable()) == ([], ("a",))


async def test_a_defect_in_taking_a_state_breaks_its_stream_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a", "b") as running:
        await running.links.sync(0.01)

        def defect(*_: object) -> None:
            raise ZeroDivisionError

        replace = Index.replace
        monkeypatch.setattr(Index, "replace", defect)
        await synced(running, "a")
        monkeypatch.setattr(Index, "replace", replace)
        assert "a" in running.links.unreachable()
        await synced(running, "a", "b")
        assert running.links.unreachable() == ()


async def test_events_count_once_over_streams_that_repeat_them() -> None:
    def event(number: int, instance: str = "i1") -> rpb.FollowResponse:
        sent = pb.Event(reason=f"{instance}-{number}")
        sent.time.seconds = number
        return rpb.FollowResponse(event=rpb.ReplicaEvent(number=number, instance=instance, event=sent))

    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        await running.links.sync(0.01)
        running.network.last("a").send(event(1), event(2), AWAY)
        await asyncio.sleep(1.0)
        running.network.last("a").send(event(1), event(2), event(3))
        await asyncio.sleep(0.01)
        assert [one.reason for one in running.events.recent()] == ["i1-1", "i1-2", "i1-3"]
        running.network.last("a").send(event(1, "i2"))
        await asyncio.sleep(0.01)
        assert [one.reason for one in running.events.recent()] == ["i2-1"], "another process has that name now"


async def test_what_others_own_is_known_as_long_as_they_are_followed() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        await asyncio.sleep(7.0)
        asking = asyncio.create_task(running.links.sync(WITHIN))
        await asyncio.sleep(0.01)
        running.network.last("a").send(vnode(N1))
        running.network.last("a").sync()
        await asking
        with running.index.watched():
            await asyncio.sleep(3.0)
        await asyncio.sleep(IDLE + 3.0)
        await synced(running, "a")
        assert await known(running) == [N1], "its stream goes on, and sends again only what changes"
        await asyncio.sleep(2 * IDLE)
        assert running.network.last("a").cancelled
        assert running.index._theirs == {}
