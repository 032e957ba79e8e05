"""What bases use is known at every replica: of others for as long as they say so, with one question for all who ask."""

import asyncio

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.app.tooling.vnodes import VNodes
from controlplane.domain.base.usage import Usage
from controlplane.domain.facts import BaseState, Health, Metaspace
from controlplane.domain.identity import BaseId
from controlplane.rpc.tooling.usages import FRESH, SharedUsages
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import Tooling, tooling

pytestmark = pytest.mark.looptime

OURS, THEIRS = "vnode.b1.dev", "vnode.b9.dev"


def usages(stage: Stage, running: Tooling) -> SharedUsages:
    return SharedUsages(VNodes(stage.cluster, stage.roster, "dev"), running.index, running.links)


def said(at: int, metaspace: int) -> dict[str, rpb.BaseUsage]:
    return {THEIRS: rpb.BaseUsage(at=Timestamp(seconds=at), metaspace_bytes=metaspace, own_bytes=0)}


async def test_of_our_own_bases_nobody_is_asked() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        assert await usages(stage, running).of(OURS) is None
        stage.router.report(stage.link, BaseId("b1"), Health(BaseState.ACTIVATED, Metaspace(7, -1), "17"))
        await asyncio.sleep(1.0)
        found = await usages(stage, running).of(OURS)
        assert found is not None
        assert found.metaspace == 7
        assert running.network.opened == []


async def test_of_others_their_owner_is_asked_once_in_a_while() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        shared = usages(stage, running)
        asking = [asyncio.create_task(shared.of(name)) for name in (THEIRS, THEIRS, "vnode.none.dev")]
        await asyncio.sleep(0.01)
        stream = running.network.last("a")
        assert stream.asked == 1
        stream.sync(usage=said(7, 5))
        found = await asyncio.gather(*asking)
        assert found == [Usage(7.0, 5, 0), Usage(7.0, 5, 0), None]
        assert await shared.of(THEIRS) == Usage(7.0, 5, 0)
        assert stream.asked == 1
        await asyncio.sleep(FRESH)
        again = asyncio.create_task(shared.of(THEIRS))
        await asyncio.sleep(0.01)
        assert stream.asked == 2
        stream.sync(usage=said(17, 6))
        assert await again == Usage(17.0, 6, 0)


async def test_one_who_does_not_answer_keeps_nobody_waiting_for_long() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "hung") as running:
        began = asyncio.get_running_loop().time()
        assert await usages(stage, running).of(THEIRS) is None
        assert asyncio.get_running_loop().time() - began < 3.0


async def test_what_a_replica_said_goes_with_it() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "a") as running:
        shared = usages(stage, running)
        asking = asyncio.create_task(shared.of(THEIRS))
        await asyncio.sleep(0.01)
        running.network.last("a").sync(usage=said(7, 5))
        assert await asking is not None
        running.network.members.become()
        await asyncio.sleep(0.01)
        assert await shared.of(THEIRS) is None
