"""What lists and watches of large fleets cost, counted: what is made, what is looked at, and how much in one turn."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from benchmarks.tools_fleet import Fleet
from controlplane.app.turns import AT_ONCE
from controlplane.rpc.tooling import codec, reads, watches
from controlplane.rpc.tooling.index import MADE_AT_ONCE
from tests.unit.rpc.tooling.replicas import call
from tests.unit.rpc.tooling.test_watches import Watching

pytestmark = pytest.mark.looptime

WATCHERS = 10
MODIFIED = pb.CHANGE_TYPE_MODIFIED


class Counted:
    """Counts calls of a function, in all and between two steps of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        self.calls = 0
        self.steps: Counter[int] = Counter()
        self._step = 0
        real: Callable[..., Any] = getattr(module, name)

        def counted(*arguments: Any) -> Any:
            self.calls += 1
            self.steps[self._step] += 1
            return real(*arguments)

        monkeypatch.setattr(module, name, counted)

    @property
    def most(self) -> int:
        """The most calls between two steps."""
        return max(self.steps.values(), default=0)

    @asynccontextmanager
    async def turning(self) -> AsyncIterator[None]:
        """Count the steps; time stands still meanwhile."""

        async def turn() -> None:
            while True:
                self._step += 1
                await asyncio.sleep(0)

        turns = asyncio.create_task(turn())
        try:
            yield
        finally:
            turns.cancel()


@asynccontextmanager
async def served(vnodes: int, modules: int = 0) -> AsyncIterator[Fleet]:
    fleet = Fleet(vnodes, modules)
    running = asyncio.create_task(fleet.tooling.index.run())
    try:
        yield fleet
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_vnode_that_changes_is_made_once_for_all_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(50, 100) as fleet:
        servicer = fleet.tooling.servicer
        vnodes = [Watching(servicer.WatchVNodes(pb.WatchVNodesRequest(), call())) for _ in range(WATCHERS)]
        modules = [Watching(servicer.WatchModules(pb.WatchModulesRequest(), call())) for _ in range(WATCHERS)]
        assert [len(await watch.news()) for watch in vnodes] == [51] * WATCHERS
        assert [len(await watch.news()) for watch in modules] == [101] * WATCHERS
        made, modules_made = Counted(monkeypatch, codec, "vnode"), Counted(monkeypatch, codec, "modules")
        compared = Counted(monkeypatch, watches, "differences")
        await fleet.lose(1)
        for watch in vnodes:
            assert [(one.type, one.vnode.name) for one in await watch.news()] == [(MODIFIED, fleet.bases[0].vnode)]
        assert (made.calls, modules_made.calls, compared.calls) == (1, 1, 2 * WATCHERS)
        for watch in (*vnodes, *modules):
            await watch.end()


@pytest.mark.parametrize("vnodes", [100, 1000])
async def test_a_page_looks_at_what_it_holds_however_large_the_fleet_is(
    vnodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(vnodes, vnodes) as fleet:
        servicer, size = fleet.tooling.servicer, 20
        await servicer.ListVNodes(pb.ListVNodesRequest(page_size=1), call())
        middle = fleet.bases[vnodes // 2].vnode
        looked, keys = Counted(monkeypatch, reads, "matches"), Counted(monkeypatch, codec, "module_key")
        leases = Counted(monkeypatch, fleet.stage.cluster.leases, "all")
        page = await servicer.ListVNodes(pb.ListVNodesRequest(page_size=size, page_token=middle), call())
        assert (len(page.items), page.items[0].name) == (size, fleet.bases[vnodes // 2 + 1].vnode)
        found = await servicer.ListModules(pb.ListModulesRequest(page_size=size, page_token=middle), call())
        assert len(found.items) == size
        shards = await servicer.ListShards(pb.ListShardsRequest(page_size=size, page_token=middle), call())
        assert [one.vnode for one in shards.items] == [one.name for one in page.items]
        assert looked.calls <= size + 2
        assert keys.calls <= size + 2
        assert leases.calls == 0


@pytest.mark.parametrize(("modules", "most"), [(0, MADE_AT_ONCE), (2, MADE_AT_ONCE // 3), (2 * MADE_AT_ONCE, 1)])
async def test_entries_are_made_in_turns(modules: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vnodes = 5 * MADE_AT_ONCE
    async with served(vnodes, vnodes * modules) as fleet:
        made = Counted(monkeypatch, codec, "vnode")
        async with made.turning():
            await fleet.tooling.servicer.ListVNodes(pb.ListVNodesRequest(page_size=1), call())
        assert (made.calls, made.most) == (vnodes, most)


async def test_what_matches_nothing_is_looked_for_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(3 * AT_ONCE, 3 * AT_ONCE) as fleet:
        servicer = fleet.tooling.servicer
        await servicer.ListVNodes(pb.ListVNodesRequest(page_size=1), call())
        listed, watched = Counted(monkeypatch, reads, "matches"), Counted(monkeypatch, watches, "matches")
        async with listed.turning():
            await servicer.ListVNodes(pb.ListVNodesRequest(selector="zone=none"), call())
        assert (listed.calls, listed.most <= AT_ONCE) == (3 * AT_ONCE, True)
        watch = servicer.WatchVNodes(pb.WatchVNodesRequest(selector="zone=none"), call())
        async with watched.turning():
            mark = await anext(watch)
        assert not mark.HasField("vnode")
        assert (watched.calls, watched.most <= AT_ONCE) == (3 * AT_ONCE, True)
        await watch.aclose()


async def test_answers_are_filled_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(3 * AT_ONCE) as fleet:
        servicer = fleet.tooling.servicer
        await servicer.ListVNodes(pb.ListVNodesRequest(page_size=1), call())
        copied = Counted(monkeypatch, codec, "last_seen")
        async with copied.turning():
            await servicer.ListVNodes(pb.ListVNodesRequest(), call())
        assert (copied.calls, copied.most <= AT_ONCE) == (3 * AT_ONCE, True)


async def test_a_watch_that_is_read_slowly_is_sent_what_is_so_when_it_reads() -> None:
    async with served(3) as fleet:
        watch = fleet.tooling.servicer.WatchVNodes(pb.WatchVNodesRequest(), call())
        assert (await anext(watch)).vnode.name == fleet.bases[0].vnode
        for _ in range(5):
            await fleet.lose(3)
            await asyncio.sleep(1.0)
        async with asyncio.timeout(60.0):
            rest = [await anext(watch) for _ in range(4)]
        assert [(one.type, one.vnode.name, bool(one.vnode.message)) for one in rest] == [
            (pb.CHANGE_TYPE_ADDED, fleet.bases[1].vnode, True),
            (pb.CHANGE_TYPE_ADDED, fleet.bases[2].vnode, True),
            (MODIFIED, fleet.bases[0].vnode, True),
            (pb.CHANGE_TYPE_UNSPECIFIED, "", False),
        ]
        await watch.aclose()


async def test_a_call_that_is_cancelled_leaves_the_entries_that_it_did_not_make_to_the_next() -> None:
    async with served(5 * MADE_AT_ONCE) as fleet:
        servicer = fleet.tooling.servicer
        cancelled = asyncio.create_task(servicer.ListVNodes(pb.ListVNodesRequest(), call()))
        for _ in range(4):
            await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert cancelled.cancelled()
        assert 0 < len(fleet.tooling.index._entries) < 5 * MADE_AT_ONCE
        found = await servicer.ListVNodes(pb.ListVNodesRequest(), call())
        assert [one.name for one in found.items] == [base.vnode for base in fleet.bases]


async def test_what_changes_too_often_is_gathered_in_turns_for_another_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(3 * AT_ONCE) as fleet:
        tooling, seen = fleet.tooling, Counted(monkeypatch, codec, "last_seen")
        async with seen.turning():
            await tooling.replicas._synced(1, await tooling.index.entries())
        assert (seen.calls, seen.most <= AT_ONCE) == (3 * AT_ONCE, True)
