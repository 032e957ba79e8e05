"""An identity belongs to one address: who may use it from another one, and from when on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controlplane.domain.base.hearing import Heard
from controlplane.domain.facts import Address, BaseState
from controlplane.domain.identity import BaseId
from tests.unit.app.harness import ADDRESS, Api, Stage

pytestmark = pytest.mark.looptime

ELSEWHERE = Address("10.0.0.66", 1238)


def address(stage: Stage) -> str:
    """Return where the Node says that the base is."""
    node = stage.node()
    assert node is not None
    return str(node["metadata"]["annotations"]["base.koupleless.io/address"])


async def test_a_live_base_is_not_taken_over_from_another_address() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        for _ in range(3):
            stage.bases.heartbeat("b1", ELSEWHERE)
            stage.bases.heartbeat("b1", ELSEWHERE, BaseState.DEACTIVATED)
        await asyncio.sleep(5.0)
        assert address(stage) == str(ADDRESS)
        assert stage.reasons().count("IdentityClash") == 1
        stage.bases.silence(base)
        await asyncio.sleep(30.0)
        stage.bases.heartbeat("b1", ELSEWHERE)
        await asyncio.sleep(1.0)
        assert address(stage) == str(ELSEWHERE)


@asynccontextmanager
async def gateway_back(*, silent: bool) -> AsyncIterator[Stage]:
    """A base that could not be heard for a while; silent: it is no more where it was."""
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.disconnect()
        if silent:
            stage.bases.silence(base)
        await asyncio.sleep(100.0)
        stage.connect()
        yield stage


async def test_a_base_that_could_not_be_heard_keeps_its_identity() -> None:
    async with gateway_back(silent=False) as stage:
        stage.bases.heartbeat("b1", ELSEWHERE)
        await asyncio.sleep(1.0)
        assert address(stage) == str(ADDRESS)


async def test_a_base_whose_reports_come_late_keeps_its_identity() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.link.heard = Heard(until=asyncio.get_running_loop().time())
        stage.bases.silence(base)
        await asyncio.sleep(40.0)
        stage.bases.heartbeat("b1", ELSEWHERE)
        await asyncio.sleep(1.0)
        assert address(stage) == str(ADDRESS)


async def test_a_base_that_moved_unheard_is_taken_when_nobody_is_where_it_was() -> None:
    async with gateway_back(silent=True) as stage:
        stage.bases.stopped.add(BaseId("b1"))
        await asyncio.sleep(1.0)
        stage.bases.heartbeat("b1", ELSEWHERE)
        await asyncio.sleep(1.0)
        assert address(stage) == str(ELSEWHERE)


async def test_a_base_that_moved_unheard_is_taken_once_it_is_silent_where_it_was() -> None:
    async with gateway_back(silent=True) as stage:
        for expected in (ADDRESS, ADDRESS, ELSEWHERE):
            stage.bases.heartbeat("b1", ELSEWHERE)
            await asyncio.sleep(1.0)
            assert address(stage) == str(expected)
            await asyncio.sleep(12.0)
