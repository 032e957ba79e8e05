"""The entries that tools read: whose entry counts, and which are made again."""

import asyncio
from collections.abc import Iterable
from random import Random

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.cluster.api import LEASES
from controlplane.domain.base.state import Base
from controlplane.domain.facts import ModuleState
from controlplane.domain.identity import BaseId, ModuleKey
from controlplane.domain.objects import Pod
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.index import KEPT_FOR, Entry
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import tooling

pytestmark = pytest.mark.looptime

OURS, THEIRS = "vnode.b1.dev", "vnode.b9.dev"


def entry(name: str, *modules: str, **fields: object) -> Entry:
    return Entry(pb.VNode(name=name, **fields), tuple(pb.Module(vnode=name, name=one) for one in modules))  # type: ignore[arg-type]


async def test_only_what_changed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    modules = codec.modules

    def noted(vnode: str, base: Base | None, pods: Iterable[Pod]) -> list[pb.Module]:
        made.append(vnode)
        return modules(vnode, base, pods)

    monkeypatch.setattr(codec, "modules", noted)
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        for number in range(1, 6):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(5.0)
        assert len(await running.index.entries()) == 5
        assert len(made) == 5
        before = dict(await running.index.entries())
        made.clear()
        stage.put_pod("p", base="b3")
        await asyncio.sleep(2.0)
        now = await running.index.entries()
        assert set(made) == {"vnode.b3.dev"}
        assert [name for name in now if now[name] is not before[name]] == ["vnode.b3.dev"]


async def test_of_two_entries_for_a_vnode_its_holders_counts() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        running.index.replace("other", {OURS: entry(OURS, "theirs")})
        assert (await running.index.entries())[OURS].vnode.owner == "replica-0", "it is ours"
        lease = stage.lease()
        assert lease is not None
        lease["spec"]["holderIdentity"] = "other"
        stage.api.put(LEASES, lease)
        await asyncio.sleep(1.0)
        assert [module.name for module in (await running.index.entries())[OURS].modules] == ["theirs"]


async def test_the_owners_entry_counts_else_that_of_the_cluster() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.modules[stage.bases.add("b1")][ModuleKey("bare", "1")] = ModuleState.ACTIVATED
        await asyncio.sleep(5.0)
    lease = api.named(LEASES, OURS, "kube-node-lease")
    assert lease is not None
    lease["spec"]["holderIdentity"] = "other"
    api.put(LEASES, lease)
    async with Stage(api).running() as stage, tooling(stage) as running:
        found = (await running.index.entries())[OURS]
        assert (found.owned, found.vnode.owner, found.vnode.modules_unknown) == (False, "other", True)
        running.index.replace("other", {OURS: entry(OURS, "theirs", address="10.0.0.9:1")})
        assert (await running.index.entries())[OURS].vnode.address == "10.0.0.9:1"
        running.index.put("other", OURS, None)
        assert (await running.index.entries())[OURS] == found


async def test_entries_of_a_replica_that_is_gone_count_for_a_while() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        with running.index.watched() as names:
            running.index.replace("other", {THEIRS: entry(THEIRS)})
            assert THEIRS in await running.index.entries()
            running.index.gone("other")
            names.take()
            await asyncio.sleep(1.0)
            assert THEIRS in await running.index.entries()
            await asyncio.sleep(KEPT_FOR + 1.0)
            assert THEIRS not in await running.index.entries()
            assert THEIRS in names.take()


async def test_after_a_change_of_owner_modules_without_a_pod_are_unknown_rather_than_absent() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        running.index.replace("other", {OURS: entry(OURS, "bare")})
        stage.bases.silence(base)
        running.index._entries[OURS] = entry(OURS, "bare", "biz1")
        unknown = entry(OURS, "biz1", modules_unknown=True)
        running.index._local[OURS] = unknown
        running.index.put("other", OURS, None)
        assert [module.name for module in running.index._entries[OURS].modules] == ["bare", "biz1"]


async def test_entries_that_no_tool_asks_for_are_not_kept() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        assert list(await running.index.entries()) == [OURS]
        await asyncio.sleep(2 * KEPT_FOR + 1.0)
        assert running.index._entries == {}
        assert list(await running.index.entries()) == [OURS]


async def test_a_walk_finds_in_order_all_that_stays_whatever_comes_and_goes_meanwhile() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        random, index = Random(7), running.index
        names = [f"vnode.b{number:03d}.dev" for number in range(400)]
        staying = set(names[::2])
        index.replace("other", {name: entry(name) for name in staying})
        await index.entries()
        found = []
        async for one in index.walk(names[9]):
            found.append(one.vnode.name)
            name = random.choice(names[1::2])
            index.put("other", name, entry(name) if random.random() < 0.5 else None)
            await index.entries()
        assert found == sorted(set(found))
        assert set(found) >= {name for name in staying if name >= names[9]}
        assert names[9] <= min(found)
        assert set(found) - staying, "some came in time"
        assert index._names == sorted(index._entries)


async def test_a_walk_over_one_finds_it_where_it_is() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        index = running.index
        index.replace("other", {name: entry(name) for name in (OURS, THEIRS)})
        await index.entries()
        assert [one.vnode.name async for one in index.walk(only=OURS)] == [OURS]
        assert [one.vnode.name async for one in index.walk("vnode.b2.dev", OURS)] == []
        index.put("other", OURS, None)
        await index.entries()
        assert [one.vnode.name async for one in index.walk(only=OURS)] == []


async def test_entries_stay_as_they_are_once_the_replica_ends() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as running:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        before = dict(await running.index.entries())
        assert before[OURS].owned
        running.index.end()
        await stage.fleet.retire()
        assert stage.roster.get(BaseId("b1")) is None
        assert await running.index.entries() == before
