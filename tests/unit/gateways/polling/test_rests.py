"""A base whose answers cost too much is asked less and less often, in virtual time."""

import asyncio
from itertools import pairwise

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.http.responses import Excessive
from tests.unit.gateways.polling.test_probe import HEALTH, HEALTHY, MODULES, Scene
from tests.unit.gateways.said import watch

pytestmark = pytest.mark.looptime


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_base_that_answers_too_much_is_asked_less_and_less(scene: Scene) -> None:
    async def excessive(_: pb.Address, command: str) -> bytes:
        if command == HEALTH:
            return HEALTHY
        raise Excessive("size", "the answer is larger than 4194304 bytes")

    scene.caller.answer = excessive
    scene.tunnel.allowances.chance = lambda: 0.5
    scene.prober.watch(watch())
    await asyncio.sleep(1)
    scene.prober.watch(watch(epoch=7))
    scene.prober.hasten(watch().base_id)
    await asyncio.sleep(2_000)
    await scene.prober.close()
    assert scene.caller.times(MODULES)[:7] == [0, 10, 30, 70, 150, 310, 630]
    assert max(b - a for a, b in pairwise(scene.caller.times(MODULES))) <= 700
    assert {failed.failure for failed in scene.failures()} == {pb.POLL_FAILURE_NOT_A_BASE}
    assert "is not asked for 10 s: the answer is larger than" in scene.failures()[0].reason


async def test_a_base_whose_answers_cost_too_much_is_left_alone(scene: Scene) -> None:
    scene.caller.seconds = 0.9
    scene.tunnel.allowances.chance = lambda: 0.5
    scene.prober.watch(watch())
    await asyncio.sleep(60)
    await scene.prober.close()
    assert any("cost more than" in failed.reason for failed in scene.failures())
    assert len(scene.caller.calls) < 8


async def test_a_new_address_ends_no_rest(scene: Scene) -> None:
    async def excessive(_: pb.Address, command: str) -> bytes:
        raise Excessive("size", "too large")

    scene.caller.answer = excessive
    scene.tunnel.allowances.chance = lambda: 0.5
    for _ in range(5):
        for port in (1238, 1239):
            scene.prober.watch(watch(port=port))
            await asyncio.sleep(0.5)
    await scene.prober.close()
    assert {call.at for call in scene.caller.calls} == {0.0}
