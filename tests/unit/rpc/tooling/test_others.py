"""Asking the other replicas: all at once, with a deadline, and never those that are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import pytest
from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.tooling.deadlines import FOR_OTHERS, time_for_others
from controlplane.rpc.tooling.replicas import OWN, Answers, Others
from tests.unit.rpc.tooling.replicas import FakeMembers, FakeOthers, failure

pytestmark = pytest.mark.looptime

Reply = Callable[[], Awaitable[pb.ListVNodesResponse]]


async def ask(members: FakeMembers, replies: dict[str, Reply]) -> Answers[pb.ListVNodesResponse]:
    def method(stub: object) -> aio.UnaryUnaryMultiCallable[pb.ListVNodesRequest, pb.ListVNodesResponse]:
        async def call(_request: object, *, timeout: float, metadata: object) -> pb.ListVNodesResponse:
            assert (timeout, metadata) == (FOR_OTHERS, OWN)
            try:
                return await asyncio.wait_for(replies[str(stub)](), timeout)
            except TimeoutError:
                raise failure(grpc.StatusCode.DEADLINE_EXCEEDED) from None

        return cast("aio.UnaryUnaryMultiCallable[Any, Any]", call)

    return await FakeOthers(members).ask(method, pb.ListVNodesRequest())


def says(name: str, *, after: float = 0.0) -> Reply:
    async def reply() -> pb.ListVNodesResponse:
        await asyncio.sleep(after)
        return pb.ListVNodesResponse(items=[pb.VNode(name=name)])

    return reply


def fails(code: grpc.StatusCode) -> Reply:
    async def reply() -> pb.ListVNodesResponse:
        raise failure(code)

    return reply


async def hangs() -> pb.ListVNodesResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("it hangs for ever")


async def test_the_only_replica_asks_nobody() -> None:
    assert await ask(FakeMembers(), {}) == Answers()


async def test_all_are_asked_at_once_and_those_that_cannot_be_are_named() -> None:
    began = asyncio.get_running_loop().time()
    replies: dict[str, Reply] = {
        "quick": says("v1"),
        "slow": says("v2", after=FOR_OTHERS - 0.1),
        "hung": hangs,
        "dead": fails(grpc.StatusCode.UNAVAILABLE),
        "older": fails(grpc.StatusCode.UNIMPLEMENTED),
        "empty": fails(grpc.StatusCode.NOT_FOUND),
    }
    answers = await ask(FakeMembers(*replies), replies)
    assert asyncio.get_running_loop().time() - began == pytest.approx(FOR_OTHERS, abs=0.01)
    given = {name: answer and answer.items[0].name for name, answer in answers.given.items()}
    assert given == {"quick": "v1", "slow": "v2", "empty": None}
    assert answers.unreachable == {"hung", "dead", "older"}


async def test_one_without_an_address_cannot_be_asked() -> None:
    members = FakeMembers()
    members.known = (Replica("me", "me"), Replica("mute"))
    assert await ask(members, {}) == Answers({}, frozenset({"mute"}))


@pytest.mark.parametrize(("remaining", "within"), [(None, FOR_OTHERS), (10.0, FOR_OTHERS), (1.0, 0.5), (-1.0, 0.0)])
def test_the_others_have_at_most_half_of_a_calls_time(remaining: float | None, within: float) -> None:
    class Context:
        def time_remaining(self) -> float | None:
            return remaining

    assert time_for_others(cast("aio.ServicerContext[Any, Any]", Context())) == within


async def test_a_call_that_gives_up_stops_asking() -> None:
    task = asyncio.create_task(ask(FakeMembers("hung"), {"hung": hangs}))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_channel_that_closes_under_a_question_is_no_end_of_the_call() -> None:
    async def closed() -> pb.ListVNodesResponse:
        raise asyncio.CancelledError

    answers = await ask(FakeMembers("leaving", "there"), {"leaving": closed, "there": says("v1")})
    assert (set(answers.given), answers.unreachable) == ({"there"}, frozenset({"leaving"}))


async def test_channels_are_shared_and_closed_with_their_member() -> None:
    members = FakeMembers()
    members.known = (Replica("me", "127.0.0.1:1"), Replica("a", "127.0.0.1:2"), Replica("b", "127.0.0.1:3"))
    others = Others(members)
    runs = asyncio.create_task(others.run())
    for address in ("127.0.0.1:2", "127.0.0.1:2", "127.0.0.1:3"):
        others.stub(address)
    assert others.addresses() == {"127.0.0.1:2", "127.0.0.1:3"}
    members.become()
    await asyncio.sleep(0.1)
    assert others.addresses() == set()
    runs.cancel()
    await others.close()
