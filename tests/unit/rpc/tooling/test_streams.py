"""Watches on the other replicas: what stays, what goes, and when they are opened again."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.rpc.tooling import mirrors
from controlplane.rpc.tooling.deadlines import FOR_OTHERS
from controlplane.rpc.tooling.merging import MODULES
from controlplane.rpc.tooling.mirrors import KEPT_FOR, Gathering, Mirror
from controlplane.rpc.tooling.streams import LONGEST_PAUSE, Listener, Streams
from tests.unit.rpc.tooling.replicas import Network, failure

pytestmark = pytest.mark.looptime

MARK = pb.WatchModulesResponse()
CUT = failure(grpc.StatusCode.UNAVAILABLE)
REQUEST = pb.WatchModulesRequest()


def told(name: str, change: pb.ChangeType.ValueType = pb.CHANGE_TYPE_ADDED) -> pb.WatchModulesResponse:
    return pb.WatchModulesResponse(type=change, module=pb.Module(vnode="v1", name=name))


def new_mirror() -> Mirror[pb.WatchModulesResponse, pb.Module]:
    return Mirror(MODULES, lambda message: message.module if message.HasField("module") else None)


def opened(
    network: Network[pb.WatchModulesResponse], listener: Listener[pb.WatchModulesResponse]
) -> Streams[pb.WatchModulesRequest, pb.WatchModulesResponse]:
    return Streams(network.others, network.method, REQUEST, listener)


def kept(mirror: Mirror[pb.WatchModulesResponse, pb.Module], *, there: bool = True) -> dict[str, list[str]]:
    return {part.replica: [item.name for item in part.items] for part in mirror.parts(lambda _: there)}


async def moment() -> None:
    await asyncio.sleep(0.01)


async def test_what_is_there_counts_from_the_mark_and_changes_at_once() -> None:
    network: Network[pb.WatchModulesResponse] = Network("a")
    mirror = new_mirror()
    async with opened(network, mirror) as streams:
        await moment()
        network.last("a").tell(told("p"))
        await moment()
        assert (kept(mirror), streams.reachable()) == ({}, frozenset())
        network.last("a").tell(MARK, told("q"), told("p", pb.CHANGE_TYPE_DELETED))
        await streams.settled()
        await moment()
        assert (kept(mirror), streams.reachable(), streams.unreachable()) == (
            {"a": ["q"]},
            frozenset({"a"}),
            frozenset(),
        )


async def test_a_broken_stream_is_opened_again_and_what_it_told_stays_until_then() -> None:
    network: Network[pb.WatchModulesResponse] = Network("a")
    mirror = new_mirror()
    async with opened(network, mirror) as streams:
        await moment()
        network.last("a").tell(told("p"), told("q"), MARK, CUT)
        await moment()
        assert (kept(mirror), streams.unreachable()) == ({"a": ["p", "q"]}, frozenset({"a"}))
        await asyncio.sleep(1.0)
        assert len(network.opened) == 2
        network.last("a").tell(told("q"))
        await moment()
        assert kept(mirror) == {"a": ["p", "q"]}
        network.last("a").tell(MARK)
        await moment()
        assert (kept(mirror), streams.unreachable()) == ({"a": ["q"]}, frozenset())


async def test_tries_become_rarer_and_are_cancelled_with_the_watch() -> None:
    network: Network[pb.WatchModulesResponse] = Network("a")
    async with opened(network, new_mirror()):
        for _ in range(600):
            await asyncio.sleep(0.1)
            if network.opened:
                network.last("a").tell(CUT)
        assert 60 / LONGEST_PAUSE <= len(network.opened) <= 35
    tries = len(network.opened)
    await asyncio.sleep(3 * LONGEST_PAUSE)
    assert len(network.opened) == tries
    assert all(stream.cancelled for stream in network.opened)


async def test_one_that_hangs_is_waited_for_until_the_deadline_only() -> None:
    network: Network[pb.WatchModulesResponse] = Network("a", "hung")
    async with opened(network, new_mirror()) as streams:
        await moment()
        network.last("a").tell(MARK)
        began = asyncio.get_running_loop().time()
        await streams.settled()
        assert asyncio.get_running_loop().time() - began == pytest.approx(FOR_OTHERS, abs=0.1)
        assert (streams.reachable(), streams.unreachable()) == (frozenset({"a"}), frozenset({"hung"}))
        network.last("hung").tell(MARK)
        await moment()
        assert streams.unreachable() == frozenset()


async def test_replicas_that_come_and_go_are_followed() -> None:
    network: Network[pb.WatchModulesResponse] = Network("a")
    mirror = new_mirror()
    async with opened(network, mirror) as streams:
        await moment()
        network.last("a").tell(told("p"), MARK)
        await moment()
        network.members.become("b")
        await moment()
        assert [stream.address for stream in network.opened] == ["a", "b"]
        assert network.last("a").cancelled
        network.last("b").tell(MARK)
        await moment()
        assert streams.reachable() == {"b"}
        assert list(kept(mirror)) == ["b", "a"], "the word of one that is gone counts last"
        assert kept(mirror)["a"] == ["p"]
        assert kept(mirror, there=False)["a"] == [], "and only of VNodes that are there still"
        await asyncio.sleep(KEPT_FOR)
        assert list(kept(mirror)) == ["b"]


async def test_the_only_replica_waits_for_nobody() -> None:
    network: Network[pb.WatchModulesResponse] = Network()
    async with opened(network, new_mirror()) as streams:
        began = asyncio.get_running_loop().time()
        await streams.settled()
        assert asyncio.get_running_loop().time() == began
        assert network.opened == []


async def test_one_that_tells_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "MOST_ITEMS", 10)
    network: Network[pb.WatchModulesResponse] = Network("a")
    mirror = new_mirror()
    async with opened(network, mirror) as streams:
        await moment()
        first = network.last("a")
        first.tell(*(told(f"m{number}") for number in range(1000)))
        await moment()
        assert first.cancelled
        assert streams.unreachable() == {"a"}
        assert kept(mirror) == {}


async def test_one_that_knows_nothing_of_what_is_watched_is_no_failure() -> None:
    network: Network[pb.WatchModulesResponse] = Network("a")
    mirror = new_mirror()
    async with opened(network, mirror) as streams:
        await moment()
        network.last("a").tell(told("p"), MARK, CUT)
        await asyncio.sleep(1.0)
        network.last("a").tell(failure(grpc.StatusCode.NOT_FOUND))
        await moment()
        assert (kept(mirror), streams.unreachable()) == ({"a": []}, frozenset())


async def test_events_are_taken_once_over_streams_that_repeat_them() -> None:
    network: Network[pb.WatchEventsResponse] = Network("a")
    events: list[str] = []
    async with Streams(
        network.others,
        network.method,
        pb.WatchEventsRequest(follow=True),
        Gathering(lambda event: events.append(event.reason), kept=3),
    ):

        def happened(*reasons: str) -> list[pb.WatchEventsResponse]:
            return [pb.WatchEventsResponse(event=pb.Event(reason=reason)) for reason in reasons]

        await moment()
        network.last("a").tell(*happened("A", "B"), pb.WatchEventsResponse(), *happened("C", "D"), CUT)
        await asyncio.sleep(1.0)
        network.last("a").tell(*happened("B", "C", "D"), pb.WatchEventsResponse(), *happened("E"))
        await moment()
        assert events == ["A", "B", "C", "D", "E"]
        network.members.become()
        await moment()
        network.members.become("a")
        await moment()
        network.last("a").tell(*happened("C", "D", "E"), pb.WatchEventsResponse(), *happened("F"))
        await moment()
        assert events == ["A", "B", "C", "D", "E", "F"], "nor when a replica that stood still comes back"


async def test_what_replicas_told_that_are_gone_is_not_kept_for_ever() -> None:
    gathering = Gathering(lambda _: None, kept=3)
    for number in range(100):
        gathering.begun(f"r{number}")
        gathering.heard(f"r{number}", pb.WatchEventsResponse(event=pb.Event(reason="A")))
        gathering.gone(f"r{number}")
    assert gathering.replicas() == {f"r{number}" for number in range(100 - mirrors.GONE_REMEMBERED, 100)}


async def test_a_list_of_events_ends_with_the_streams_of_all() -> None:
    network: Network[pb.WatchEventsResponse] = Network("a", "dead")
    async with Streams(
        network.others, network.method, pb.WatchEventsRequest(), Gathering(lambda _: None, kept=3), once=True
    ) as streams:
        await moment()
        network.last("a").tell(pb.WatchEventsResponse(), None)
        network.last("dead").tell(CUT)
        await streams.settled()
        assert (streams.reachable(), streams.unreachable()) == (frozenset({"a"}), frozenset({"dead"}))
        await asyncio.sleep(60)
        assert len(network.opened) == 2
