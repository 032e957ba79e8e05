"""Watched bases are polled at intervals and with backoff, and none delays another, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.http.arklet_client import Answer as Received
from gateways.http.responses import Lost, NotSent
from gateways.http.tunnel import HttpTunnel, Slots
from service.addresses import DEFAULT_NETWORKS, AddressPolicy
from tests.unit.gateways.answers import received
from tests.unit.gateways.said import address, watch

pytestmark = pytest.mark.looptime

NO_MODULES = b'{"code":"SUCCESS","data":[]}'
HEALTHY = b'{"code":"SUCCESS","data":{"healthData":{"masterBizInfo":{"bizState":"ACTIVATED"}}}}'
HERE = address("10.0.0.1")
THERE = address("10.0.0.2")
MODULES, HEALTH = "queryAllBiz", "health"

Answer = Callable[[pb.Address, str], Awaitable[bytes]]


@dataclass
class Call:
    at: float
    address: pb.Address
    command: str


class FakeCaller:
    """Answers as a healthy base, unless ``answer`` is replaced."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answer: Answer = self.healthy
        self.seconds = 0.0

    async def healthy(self, _: pb.Address, command: str) -> bytes:
        return HEALTHY if command == HEALTH else NO_MODULES

    def call(
        self, address: pb.Address, command: str, body: bytes, timeout: float
    ) -> AbstractAsyncContextManager[Received]:
        return received(self.body(address, command, body, timeout), self.seconds)

    async def body(self, address: pb.Address, command: str, body: bytes, timeout: float) -> bytes:
        assert body == b"{}"
        self.calls.append(Call(asyncio.get_running_loop().time(), address, command))
        async with asyncio.timeout(timeout):
            return await self.answer(address, command)

    def times(self, command: str) -> list[float]:
        return [round(call.at, 3) for call in self.calls if call.command == command]


class Scene:
    def __init__(self) -> None:
        self.caller = FakeCaller()
        self.reports: list[pb.Report] = []
        policy = AddressPolicy(DEFAULT_NETWORKS)
        self.tunnel = HttpTunnel(
            self.caller.call, policy, self.reports.append, polls=8, health_timeout=5, query_timeout=10
        )
        self.prober = self.tunnel.prober
        self.prober.chance = lambda: 0.5

    def kinds(self) -> list[str]:
        return [report.WhichOneof("fact") or "" for report in self.reports]

    def epochs(self) -> list[int]:
        return [report.modules.epoch for report in self.reports if report.HasField("modules")]

    def failures(self) -> list[pb.PollFailed]:
        return [report.poll_failed for report in self.reports if report.HasField("poll_failed")]


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_base_is_polled_at_the_intervals_of_its_watch(scene: Scene) -> None:
    scene.prober.watch(watch())
    await asyncio.sleep(61)
    await scene.prober.close()
    assert scene.caller.times(MODULES) == [0, 15, 30, 45, 60]
    assert scene.caller.times(HEALTH) == [0, 10, 20, 30, 40, 50, 60]


async def test_polls_that_fall_due_close_together_begin_together(scene: Scene) -> None:
    scene.prober.chance = random.Random(1).random
    for number in range(200):
        scene.prober.watch(watch(f"b{number}"))
    await asyncio.sleep(20)
    await scene.prober.close()
    later = [at for at in scene.caller.times(MODULES) if at]
    assert len(later) == 200
    assert len(set(later)) <= 11, "a fifth of 15 s in steps of 0.3 s"


async def test_health_is_asked_for_less_often_while_heartbeats_flow(scene: Scene) -> None:
    scene.prober.watch(watch())
    for _ in range(8):
        scene.prober.heartbeat("a", HERE)
        await asyncio.sleep(12)
    assert scene.caller.times(HEALTH) == [0, 30, 60, 90]
    await asyncio.sleep(60)
    await scene.prober.close()
    assert scene.caller.times(HEALTH)[4:] == [110, 120, 130, 140, 150]


async def test_a_higher_epoch_asks_at_once(scene: Scene) -> None:
    scene.prober.watch(watch())
    await asyncio.sleep(1)
    scene.prober.watch(watch(epoch=2))
    await asyncio.sleep(1)
    scene.prober.watch(watch(epoch=2))
    await asyncio.sleep(15)
    await scene.prober.close()
    assert scene.caller.times(MODULES) == pytest.approx([0, 1, 16], abs=0.3)
    assert scene.caller.times(HEALTH) == [0, 10]
    assert scene.epochs() == [1, 2, 2]


async def test_a_list_has_the_epoch_of_when_it_was_asked_for(scene: Scene) -> None:
    async def slow(address: pb.Address, command: str) -> bytes:
        await asyncio.sleep(3)
        return await scene.caller.healthy(address, command)

    scene.caller.answer = slow
    scene.prober.watch(watch())
    await asyncio.sleep(1)
    scene.prober.watch(watch(epoch=2))
    scene.prober.watch(watch(epoch=3))
    await asyncio.sleep(6)
    await scene.prober.close()
    assert scene.epochs() == [1, 3]
    assert scene.caller.times(MODULES) == [0, 3], "one question at a time"


async def test_a_base_that_moved_is_asked_at_its_new_address(scene: Scene) -> None:
    async def one_hangs(address: pb.Address, command: str) -> bytes:
        if address == HERE:
            await asyncio.sleep(4)
        return await scene.caller.healthy(address, command)

    scene.caller.answer = one_hangs
    scene.prober.watch(watch())
    await asyncio.sleep(1)
    scene.prober.watch(watch(ip=THERE.ip, epoch=2))
    await asyncio.sleep(5)
    await scene.prober.close()
    assert [call.at for call in scene.caller.calls if call.address == THERE] == [1, 1]
    assert scene.epochs() == [2], "not the one of the old address"


async def test_failures_are_reported_when_they_change(scene: Scene) -> None:
    failures: list[Exception | None] = [
        NotSent("refused"),
        NotSent("refused"),
        Lost("cut"),
        Lost("cut"),
        None,
        Lost("cut"),
    ]

    async def failing(address: pb.Address, command: str) -> bytes:
        if command == MODULES and failures and (failure := failures.pop(0)) is not None:
            raise failure
        return await scene.caller.healthy(address, command)

    scene.caller.answer = failing
    scene.prober.watch(watch())
    await asyncio.sleep(50)
    await scene.prober.close()
    reported = [
        report.poll_failed.reason if report.HasField("poll_failed") else "list"
        for report in scene.reports
        if not report.HasField("health")
    ]
    assert reported == ["refused", "cut", "list", "cut"]


async def test_a_failure_is_reported_again_for_a_new_watch(scene: Scene) -> None:
    async def failing(_: pb.Address, __: str) -> bytes:
        raise NotSent("refused")

    scene.caller.answer = failing
    scene.prober.watch(watch())
    await asyncio.sleep(1)
    scene.prober.watch(watch(epoch=2, fence=2))
    await asyncio.sleep(1)
    await scene.prober.close()
    assert [failed.epoch for failed in scene.failures() if failed.verb == pb.VERB_QUERY_MODULES] == [1, 2]


async def test_an_address_that_is_not_allowed_is_never_called(scene: Scene) -> None:
    scene.prober.watch(watch(ip="127.0.0.1", port=80))
    await asyncio.sleep(40)
    await scene.prober.close()
    assert not scene.caller.calls
    assert len(scene.failures()) == 2


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b'{"code":"FAILED","message":"no"}', pb.POLL_FAILURE_NEGATIVE),
        (b"<html>", pb.POLL_FAILURE_NOT_A_BASE),
        (Lost("no answer within 5 s"), pb.POLL_FAILURE_NO_ANSWER),
        (NotSent("no connection: Connection refused"), pb.POLL_FAILURE_NOT_CONNECTED),
    ],
)
async def test_a_failed_poll_names_the_kind_of_its_failure(
    scene: Scene, answer: bytes | Exception, failure: pb.PollFailure.ValueType
) -> None:
    async def fail(_: pb.Address, __: str) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer

    scene.caller.answer = fail
    scene.prober.watch(watch())
    await asyncio.sleep(0.1)
    alive = scene.prober.alive_elsewhere("a", THERE)
    assert alive == (HERE if failure == pb.POLL_FAILURE_NEGATIVE else None), (
        "whatever answers there need not be the base"
    )
    assert {failed.failure for failed in scene.failures()} == {failure}
    assert set(scene.kinds()) == {"poll_failed"}
    await scene.prober.close()


async def test_a_base_that_listens_after_its_first_heartbeat_is_asked_within_a_second(scene: Scene) -> None:
    """Real bases send heartbeats before they listen."""
    open_at = 2.3

    async def starting(address: pb.Address, command: str) -> bytes:
        if asyncio.get_running_loop().time() < open_at:
            raise NotSent("no connection: Connection refused")
        return await scene.caller.healthy(address, command)

    scene.caller.answer = starting
    scene.prober.watch(watch())
    scene.prober.heartbeat("a", HERE)
    await asyncio.sleep(10)
    await scene.prober.close()
    assert scene.caller.times(MODULES) == [0, 0.5, 1.5, 3.5]
    assert scene.kinds().count("modules") == scene.kinds().count("health") == 1


async def test_a_base_that_is_away_is_asked_rarely_until_a_heartbeat(scene: Scene) -> None:
    async def away(_: pb.Address, __: str) -> bytes:
        raise NotSent("no connection: Connection refused")

    scene.caller.answer = away
    scene.prober.watch(watch())
    await asyncio.sleep(50)
    assert scene.caller.times(MODULES) == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 30.5, 45.5]
    for _ in range(20):
        scene.prober.heartbeat("a", HERE)
    await asyncio.sleep(2)
    await scene.prober.close()
    assert scene.caller.times(MODULES)[8:] == [50.5, 51.5]


async def test_once_a_base_answers_one_question_the_other_is_asked_at_once(scene: Scene) -> None:
    async def starting(address: pb.Address, command: str) -> bytes:
        if not scene.caller.times(HEALTH)[3:]:
            raise NotSent("no connection: Connection refused")
        return await scene.caller.healthy(address, command)

    scene.caller.answer = starting
    scene.prober.watch(watch())
    await asyncio.sleep(3.6)
    await scene.prober.close()
    assert scene.caller.times(HEALTH) == scene.caller.times(MODULES)[:4] == [0, 0.5, 1.5, 3.5]
    assert {"modules", "health"} <= {*scene.kinds()}


async def test_a_base_is_alive_only_where_it_showed_a_sign_of_life(scene: Scene) -> None:
    async def silent(_: pb.Address, __: str) -> bytes:
        raise NotSent("refused")

    scene.caller.answer = silent
    assert scene.prober.alive_elsewhere("a", THERE) is None
    scene.prober.watch(watch())
    await asyncio.sleep(1)
    assert scene.prober.alive_elsewhere("a", THERE) is None, "no sign of life yet"
    scene.prober.heartbeat("a", THERE)
    assert scene.prober.alive_elsewhere("a", THERE) is None, "a heartbeat of another address is no sign of life"
    scene.prober.heartbeat("a", HERE)
    assert scene.prober.alive_elsewhere("a", THERE) == HERE
    assert scene.prober.alive_elsewhere("a", HERE) is None
    await asyncio.sleep(25.5)
    assert scene.prober.alive_elsewhere("a", THERE) is None, "silent for 25 s"
    await scene.prober.close()


async def test_a_base_that_is_said_to_go_away_is_asked_at_once_and_keeps_its_identity(scene: Scene) -> None:
    scene.prober.watch(watch())
    await asyncio.sleep(2)
    for _ in range(5):
        scene.prober.leaving("a")
    await asyncio.sleep(0.5)
    assert scene.caller.times(MODULES) == [0, 2]
    assert scene.caller.times(HEALTH) == [0, 2]
    assert scene.prober.alive_elsewhere("a", THERE) == HERE
    await scene.prober.close()


async def test_a_full_slow_lane_keeps_polls_in_the_prompt_lane() -> None:
    slots = Slots(1)
    order: list[str] = []

    async def hold(name: str, seconds: float) -> None:
        async with slots.slot(failing=False):
            order.append(name)
            await asyncio.sleep(seconds)

    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(hold(str(number), 20))
            await asyncio.sleep(0)
    assert order == ["0", "1", "2", "3", "4", "5"]
    # Four moved to the slow lane after a second each; the fifth kept its slot until it was done.
    assert asyncio.get_running_loop().time() - began == pytest.approx(4 + 20 + 20, abs=0.1)
    async with slots.slot(failing=False), slots.slot(failing=True):
        pass


async def test_unwatched_bases_are_not_polled(scene: Scene) -> None:
    scene.prober.watch(watch())
    await asyncio.sleep(1)
    scene.prober.unwatch("a")
    scene.prober.unwatch("a")
    await asyncio.sleep(100)
    assert len(scene.caller.calls) == 2
    assert not scene.prober._bases


async def test_a_defect_with_one_base_does_not_end_its_polling(scene: Scene) -> None:
    async def defect(_: pb.Address, __: str) -> bytes:
        raise KeyError("defect")

    scene.caller.answer = defect
    scene.prober.watch(watch())
    await asyncio.sleep(16)
    await scene.prober.close()
    assert scene.caller.times(MODULES) == [0, 15]
    assert len(scene.failures()) == 2


async def test_bases_that_hang_keep_nobody_waiting_longer_than_a_second(scene: Scene) -> None:
    async def hang_some(address: pb.Address, command: str) -> bytes:
        if address == THERE:
            await asyncio.sleep(3600)
        return await scene.caller.healthy(address, command)

    scene.caller.answer = hang_some
    for number in range(4):
        scene.prober.watch(watch(f"bad-{number}", THERE.ip))
    await asyncio.sleep(0.1)
    scene.prober.watch(watch())
    await asyncio.sleep(1.1)
    await scene.prober.close()
    assert {report.base_id for report in scene.reports if report.HasField("modules")} == {"a"}
