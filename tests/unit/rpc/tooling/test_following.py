"""A replica sends another one all that it owns, then each change, and not what it lets go of at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.cluster.api import LEASES
from controlplane.domain.facts import BaseState, Health, Metaspace
from controlplane.domain.identity import BaseId
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import Refused, Tooling, call, tooling

pytestmark = pytest.mark.looptime


class Following:
    """Another replica that follows this one."""

    def __init__(self, served: Tooling) -> None:
        self.got: list[rpb.FollowResponse] = []
        self._requests: asyncio.Queue[rpb.FollowRequest | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._read(served.replicas.Follow(self._asked(), call())))

    async def _asked(self) -> AsyncIterator[rpb.FollowRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _read(self, stream: AsyncIterator[rpb.FollowResponse]) -> None:
        async for message in stream:
            self.got.append(message)

    def ask(self, sync: int | None) -> None:
        self._requests.put_nowait(None if sync is None else rpb.FollowRequest(sync=sync))

    async def news(self, after: float = 1.0) -> list[str]:
        """Return what came since the last call, in short."""
        await asyncio.sleep(after)
        got, self.got = self.got, []
        return [_short(message) for message in got]


def _short(message: rpb.FollowResponse) -> str:
    kind = str(message.WhichOneof("message"))
    match kind:
        case "vnode":
            return f"{message.vnode.vnode.base} {','.join(m.name for m in message.vnode.modules)}".strip()
        case "event":
            return message.event.event.reason
        case "synced":
            return f"synced {message.synced.number}"
        case _:
            return f"{kind} {message.gone}"


@asynccontextmanager
async def following() -> AsyncIterator[tuple[Tooling, Following]]:
    async with Stage(Api()).running() as stage, tooling(stage) as served:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        other = Following(served)
        try:
            yield served, other
        finally:
            other.task.cancel()
            await asyncio.wait([other.task])


async def test_owned_vnodes_come_first_then_the_answer_then_changes() -> None:
    async with following() as (served, other):
        other.ask(3)
        assert await other.news() == ["b1", "VNodeCreated", "synced 3"]
        served.stage.put_pod("p")
        assert [one for one in await other.news(5.0) if one.startswith("b1")][-1] == "b1 biz1"
        report = Health(BaseState.ACTIVATED, Metaspace(7, -1), "17")
        served.stage.router.report(served.stage.link, BaseId("b1"), report)
        await asyncio.sleep(1.0)
        other.ask(4)
        await asyncio.sleep(0.05)
        (synced,) = (one.synced for one in other.got if one.HasField("synced"))
        assert synced.last_seen["vnode.b1.dev"].seconds > 0
        assert synced.usage["vnode.b1.dev"].metaspace_bytes == 7
        assert [(gateway.id, gateway.watched) for gateway in synced.gateways] == [
            (served.stage.link.info.gateway_id, 1)
        ]


async def test_a_question_is_answered_with_the_state_at_its_arrival() -> None:
    async with following() as (served, other):
        other.ask(1)
        await other.news()
        served.stage.put_pod("p")
        await asyncio.sleep(0.0)
        other.ask(2)
        got = await other.news(0.01)
        assert got[-1] == "synced 2"
        assert any(one.startswith("b1 biz1") for one in got), "without the time in which changes are gathered"


async def test_a_vnode_that_it_no_longer_owns_is_gone() -> None:
    async with following() as (served, other):
        other.ask(1)
        await other.news()
        lease = served.stage.lease()
        assert lease is not None
        lease["spec"]["holderIdentity"] = "other"
        served.stage.api.put(LEASES, lease)
        assert "gone vnode.b1.dev" in await other.news(3.0)


async def test_it_ends_with_the_replica_before_what_it_lets_go_of_is_seen() -> None:
    async with following() as (served, other):
        other.ask(1)
        await other.news()
        served.index.end()
        await served.stage.fleet.retire()
        assert await other.news() == []
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await other.task


async def test_it_ends_when_the_other_one_ends_its_questions() -> None:
    async with following() as (served, other):
        other.ask(1)
        await other.news()
        other.ask(None)
        await asyncio.sleep(1.0)
        assert other.task.done()
        assert other.task.exception() is None
        assert served.index._watchers == 0
