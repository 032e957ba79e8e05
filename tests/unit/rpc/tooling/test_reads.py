"""Reads over a control plane in memory: our bases, those of another replica, and what the cluster shows."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from unittest.mock import AsyncMock

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.app.tooling.refusals import RequestError
from controlplane.cluster.api import LEASES
from controlplane.domain.facts import ModuleState
from controlplane.domain.identity import ModuleKey
from controlplane.rpc.tooling.calls import MOST_IN_PAGE, PAGE, page
from controlplane.rpc.tooling.replicas import SYNC_WITHIN
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import Refused, Tooling, call, tooling, vnode

pytestmark = pytest.mark.looptime

T = TypeVar("T")

THEIRS, OURS = "vnode.b1.dev", "vnode.b2.dev"


@asynccontextmanager
async def stage(*others: str) -> AsyncIterator[Tooling]:
    """b1 belongs to the replica "other", b2 to this one; both have a module without a Pod."""
    async with Stage(Api()).running() as running:
        for base in ("b1", "b2"):
            running.bases.modules[running.bases.add(base)][ModuleKey("foreign", "1")] = ModuleState.ACTIVATED
        running.put_pod("p", base="b1")
        await asyncio.sleep(20.0)
        lease = running.lease("b1")
        assert lease is not None
        spec = {**lease["spec"], "holderIdentity": "other", "leaseTransitions": lease["spec"]["leaseTransitions"] + 1}
        running.api.put(LEASES, {**lease, "spec": spec})
        await asyncio.sleep(5.0)
        assert [base.vnode for base in running.roster.bases()] == [OURS]
        async with tooling(running, *others) as served:
            yield served


async def answered(served: Tooling, read: Awaitable[T], *messages: rpb.FollowResponse, **more: Any) -> T:
    """Let the other replica send this, and answer."""
    task = asyncio.ensure_future(read)
    await asyncio.sleep(0.01)
    stream = served.network.last("other")
    stream.send(*messages)
    stream.sync(**more)
    return await task


def their_vnode(*modules: pb.Module) -> rpb.FollowResponse:
    return vnode(THEIRS, *modules, base="b1", address="10.0.0.9:1238", owner="other", fence=9)


async def test_without_others_a_holder_that_does_not_live_is_named() -> None:
    async with stage() as served:
        found = await served.servicer.ListVNodes(pb.ListVNodesRequest(), call())
        assert [(item.name, item.owner, bool(item.address)) for item in found.items] == [
            (THEIRS, "other", False),
            (OURS, "replica-0", True),
        ]
        assert list(found.unreachable_replicas) == ["other"]


async def test_the_owners_entries_replace_those_of_the_cluster() -> None:
    modules = [pb.Module(vnode=THEIRS, name=name) for name in ("biz1", "theirs")]
    async with stage("other") as served:
        seen = {THEIRS: Timestamp(seconds=7)}
        listing = served.servicer.ListVNodes(pb.ListVNodesRequest(), call())
        vnodes = await answered(served, listing, their_vnode(*modules), last_seen=seen)
        assert [(item.name, item.fence == 9, bool(item.address)) for item in vnodes.items] == [
            (THEIRS, True, True),
            (OURS, False, True),
        ]
        assert vnodes.items[0].last_seen.seconds == 7
        assert vnodes.items[1].last_seen.seconds > 1_700_000_000
        found = await answered(served, served.servicer.ListModules(pb.ListModulesRequest(), call()))
        assert [(item.vnode, item.name) for item in found.items] == [
            (THEIRS, "biz1"),
            (THEIRS, "theirs"),
            (OURS, "foreign"),
        ]
        assert list(vnodes.unreachable_replicas) == []


async def test_when_the_owner_is_away_the_cluster_shows_its_pods() -> None:
    async with stage("other") as served:
        modules = await served.servicer.ListModules(pb.ListModulesRequest(), call())
        assert [(item.vnode, item.name, item.pod) for item in modules.items] == [
            (THEIRS, "biz1", "p"),
            (OURS, "foreign", ""),
        ]
        assert list(modules.unreachable_replicas) == ["other"]


async def test_modules_are_chosen_by_vnode_name_and_management() -> None:
    async with stage() as served:
        for request, found in (
            (pb.ListModulesRequest(vnode="b2"), [(OURS, "foreign")]),
            (pb.ListModulesRequest(name="biz1"), [(THEIRS, "biz1")]),
            (pb.ListModulesRequest(management=pb.MANAGEMENT_UNMANAGED), [(OURS, "foreign")]),
            (pb.ListModulesRequest(management=pb.MANAGEMENT_ORPHAN), []),
        ):
            items = (await served.servicer.ListModules(request, call())).items
            assert [(item.vnode, item.name) for item in items] == found
        with pytest.raises(Refused, match="NOT_FOUND"):
            await served.servicer.ListModules(pb.ListModulesRequest(vnode="nobody"), call())


async def test_one_vnode_comes_from_its_owner_with_the_events_of_all() -> None:
    event = pb.Event(reason="Later", vnode=THEIRS, time=Timestamp(seconds=2_000_000_000))
    later = rpb.FollowResponse(event=rpb.ReplicaEvent(number=1, instance="i1", event=event))
    async with stage("other") as served:
        away = await served.servicer.GetVNode(pb.GetVNodeRequest(name="b1"), call())
        assert (away.vnode.owner, list(away.unreachable_replicas)) == ("other", ["other"])
        getting = served.servicer.GetVNode(pb.GetVNodeRequest(name="b1"), call())
        module = pb.Module(vnode=THEIRS, name="theirs")
        found = await answered(served, getting, their_vnode(module), later, vnode("vnode.new.dev"))
        assert (found.vnode.fence, [item.name for item in found.modules]) == (9, ["theirs"])
        reasons = [item.reason for item in found.events]
        assert reasons[0] == "VNodeCreated"
        assert reasons[-1] == "Later"
        new = await answered(served, served.servicer.GetVNode(pb.GetVNodeRequest(name="new"), call()))
        assert new.vnode.name == "vnode.new.dev", "its owner may know it before its Node is there"
        with pytest.raises(Refused, match="NOT_FOUND"):
            await answered(served, served.servicer.GetVNode(pb.GetVNodeRequest(name="nobody"), call()))


async def test_history_and_gateways_are_those_of_all() -> None:
    past = pb.PastOperation(vnode=THEIRS, name="theirs", version="1", time=Timestamp(seconds=1))
    async with stage("other") as served:
        served.stage.put_pod("q", base="b2")
        await asyncio.sleep(2.0)
        (mine,) = served.stage.gateways.all()
        own = rpb.FollowResponse(vnode=rpb.OwnedVNode(vnode=pb.VNode(name=THEIRS), operations=[past]))
        found = await answered(served, served.servicer.ListOperations(pb.ListOperationsRequest(), call()), own)
        assert [(item.vnode, item.name) for item in found.items] == [(THEIRS, "theirs"), (OURS, "biz1")]
        name = mine.link.info.gateway_id
        theirs = [pb.Gateway(id=name, watched=5), pb.Gateway(id="zz")]
        gateways = await answered(
            served, served.servicer.ListGateways(pb.ListGatewaysRequest(), call()), gateways=theirs
        )
        assert [(item.id, item.watched) for item in gateways.items] == [
            (name, 5 + served.stage.roster.load[name]),
            ("zz", 0),
        ]


async def test_a_rollout_of_a_module_counts_pods_else_the_modules_of_the_owners() -> None:
    async with stage("other") as served:

        def rollout(name: str, version: str = "", target: pb.Target | None = None) -> Awaitable[pb.GetRolloutResponse]:
            module = pb.ModuleRollout(name=name, version=version, target=target)
            return served.servicer.GetRollout(pb.GetRolloutRequest(module=module), call())

        asked = await rollout("biz1")
        known = "a Pod asks for it on one base, and all know of Pods"
        assert (asked.desired, list(asked.unreachable_replicas)) == (1, []), known
        away = await rollout("foreign", "1", pb.Target(all=True))
        assert (away.desired, away.updated, away.done, list(away.unreachable_replicas)) == (2, 1, False, ["other"])
        modules = [pb.Module(vnode=THEIRS, name="foreign", version=version, ready=True) for version in ("1", "2")]
        sent = vnode(THEIRS, *modules, ready=True)
        found = await answered(served, rollout("foreign", "1", pb.Target(all=True)), sent)
        assert (found.desired, found.updated, found.available, found.done) == (2, 2, 2, True)
        assert list(found.unreachable_replicas) == []
        with pytest.raises(Refused, match="NOT_FOUND"):
            await answered(served, rollout("nothing"))


async def _streamed(items: list[str]) -> AsyncGenerator[str, None]:
    for item in items:
        yield item


def paged(items: list[str], size: int, token: str = "") -> tuple[list[str], str]:
    """Return a page and the next token; nothing here waits."""
    paging = page(_streamed(items), str, size, token)
    try:
        paging.send(None)
    except StopIteration as end:
        answer: tuple[list[str], str] = end.value
        return answer
    raise AssertionError("a page of what is there waits for nothing")


@given(names=st.sets(st.text("abc\n", min_size=1, max_size=4)), size=st.integers(1, 5), lost=st.integers(0, 20))
def test_pages_make_the_whole_whatever_comes_and_goes_between_them(names: set[str], size: int, lost: int) -> None:
    items, token, found = sorted(names), "", list[str]()
    while True:
        part, token = paged(items, size, token)
        assert len(part) <= size
        found += part
        if not token:
            break
        # An item that was sent may go, and one that comes before it is not expected.
        items = sorted({*items[lost % len(items) :], *(name for name in items if name >= token), "\n"})
    assert found == sorted({*found})
    assert set(found) >= names
    assert set(found) - names <= {"\n"}


def test_a_page_has_bounds() -> None:
    items = [f"{number:05d}" for number in range(2 * MOST_IN_PAGE)]
    assert len(paged(items, 0)[0]) == PAGE
    assert len(paged(items, MOST_IN_PAGE)[0]) == MOST_IN_PAGE
    with pytest.raises(RequestError):
        paged(items, MOST_IN_PAGE + 1)


@pytest.mark.parametrize(("remaining", "within"), [(None, SYNC_WITHIN), (10.0, SYNC_WITHIN), (1.0, 0.5), (-1.0, 0.0)])
async def test_other_replicas_get_at_most_half_of_a_calls_time(
    remaining: float | None, within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as served:
        sync = AsyncMock()
        monkeypatch.setattr(served.links, "sync", sync)
        await served.servicer.sync(call(remaining))
        sync.assert_awaited_once_with(within)
