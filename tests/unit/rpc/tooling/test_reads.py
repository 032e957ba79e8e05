"""Reads over a control plane in memory: what is ours, what another replica tells, and what the cluster shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.tooling.operations import Missing, Operations
from controlplane.app.tooling.rollouts import Rollouts
from controlplane.app.tooling.shards import Shards
from controlplane.cluster.api import LEASES
from controlplane.domain.facts import ModuleState
from controlplane.domain.identity import ModuleKey
from controlplane.rpc.tooling.reads import Reads
from controlplane.rpc.tooling.replicas import Others
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import FakeMembers, failure

pytestmark = pytest.mark.looptime

Answer = Callable[[Any], Message]

THEIRS, OURS = "vnode.b1.dev", "vnode.b2.dev"


class Wired(Others):
    """Others that answer what the test says; a method without an answer fails as unreachable."""

    def __init__(self, *names: str, **answers: Answer) -> None:
        super().__init__(FakeMembers(*names, me="replica-0"))
        self.asked: list[str] = []
        self._answers = answers

    def stub(self, address: str) -> Any:
        def method(name: str) -> Callable[..., Any]:
            async def call(request: Any, *, timeout: float, metadata: object) -> Message:
                self.asked.append(name)
                if name not in self._answers:
                    raise failure(grpc.StatusCode.UNAVAILABLE)
                return self._answers[name](request)

            return call

        names = ("ListVNodes", "GetVNode", "ListModules", "ListOperations", "ListGateways")
        return SimpleNamespace(**{name: method(name) for name in names})


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """b1 belongs to the replica "other", b2 to this one; both have a module that nobody asked for."""
    async with Stage(Api()).running() as running:
        for base in ("b1", "b2"):
            running.bases.add(base)
            running.bases.modules[running.bases.add(base)][ModuleKey("foreign", "1")] = ModuleState.ACTIVATED
        running.put_pod("p", base="b1")
        await asyncio.sleep(20.0)
        lease = running.lease("b1")
        assert lease is not None
        spec = {**lease["spec"], "holderIdentity": "other", "leaseTransitions": lease["spec"]["leaseTransitions"] + 1}
        running.api.put(LEASES, {**lease, "spec": spec})
        await asyncio.sleep(5.0)
        assert [base.vnode for base in running.roster.bases()] == [OURS]
        yield running


def reads(running: Stage, others: Others) -> Reads:
    return Reads(
        operations=Operations(running.cluster, running.roster, env="dev"),
        roster=running.roster,
        gateways=running.gateways,
        recorder=running.recorder,
        shards=Shards(running.cluster, running.members, env="dev"),
        others=others,
    )


def their_vnode() -> pb.VNode:
    return pb.VNode(name=THEIRS, base="b1", address="10.0.0.9:1238", owner="other", fence=9)


async def test_without_others_nobody_is_asked_and_a_holder_that_does_not_live_is_named() -> None:
    async with stage() as running:
        others = Wired()
        found = await reads(running, others).vnodes(pb.ListVNodesRequest(), own=False)
        assert [(item.name, item.owner, bool(item.address)) for item in found.items] == [
            (THEIRS, "other", False),
            (OURS, "replica-0", True),
        ]
        assert (list(found.unreachable_replicas), others.asked) == (["other"], [])


async def test_the_owners_word_replaces_the_clusters() -> None:
    async with stage() as running:
        others = Wired(
            "other",
            ListVNodes=lambda _: pb.ListVNodesResponse(items=[their_vnode()]),
            ListModules=lambda _: pb.ListModulesResponse(
                items=[pb.Module(vnode=THEIRS, name=name) for name in ("biz1", "theirs")]
            ),
        )
        vnodes = await reads(running, others).vnodes(pb.ListVNodesRequest(), own=False)
        assert [(item.name, item.fence == 9, bool(item.address)) for item in vnodes.items] == [
            (THEIRS, True, True),
            (OURS, False, True),
        ]
        modules = await reads(running, others).modules(pb.ListModulesRequest(), own=False)
        assert [(item.vnode, item.name) for item in modules.items] == [
            (THEIRS, "biz1"),
            (THEIRS, "theirs"),
            (OURS, "foreign"),
        ]
        assert list(vnodes.unreachable_replicas) == []


async def test_when_the_owner_is_away_the_cluster_shows_its_pods() -> None:
    async with stage() as running:
        modules = await reads(running, Wired("other")).modules(pb.ListModulesRequest(), own=False)
        assert [(item.vnode, item.name, item.pod) for item in modules.items] == [
            (THEIRS, "biz1", "p"),
            (OURS, "foreign", ""),
        ]
        assert list(modules.unreachable_replicas) == ["other"]


async def test_a_page_that_leads_back_is_not_followed() -> None:
    back = pb.ListVNodesResponse(items=[their_vnode()], next_page_token="a")
    async with stage() as running:
        found = await reads(running, Wired("other", ListVNodes=lambda _: back)).vnodes(
            pb.ListVNodesRequest(page_token="b"), own=False
        )
        assert [item.name for item in found.items] == [THEIRS, OURS]
        assert (found.next_page_token, list(found.unreachable_replicas)) == ("", ["other"])


async def test_own_is_what_this_replica_owns_and_asks_nobody() -> None:
    async with stage() as running:
        others = Wired("other")
        own = reads(running, others)
        assert [item.name for item in (await own.vnodes(pb.ListVNodesRequest(), own=True)).items] == [OURS]
        assert {item.vnode for item in (await own.modules(pb.ListModulesRequest(), own=True)).items} == {OURS}
        theirs = await own.vnode(pb.GetVNodeRequest(name="b1"), own=True)
        assert not theirs.HasField("vnode")
        assert {event.vnode for event in theirs.events} == {THEIRS}, "events of our time as its owner are ours to tell"
        assert others.asked == []


async def test_one_vnode_is_told_by_its_owner_with_the_events_of_all() -> None:
    event = pb.Event(reason="Later", vnode=THEIRS, time=Timestamp(seconds=2_000_000_000))
    module = pb.Module(vnode=THEIRS, name="theirs")
    answer = pb.GetVNodeResponse(vnode=their_vnode(), modules=[module], events=[event])
    async with stage() as running:
        found = await reads(running, Wired("other", GetVNode=lambda _: answer)).vnode(
            pb.GetVNodeRequest(name="b1"), own=False
        )
        assert (found.vnode.fence, [item.name for item in found.modules]) == (9, ["theirs"])
        reasons = [item.reason for item in found.events]
        assert reasons[0] == "VNodeCreated"
        assert reasons[-1] == "Later"
        away = await reads(running, Wired("other")).vnode(pb.GetVNodeRequest(name="b1"), own=False)
        assert (away.vnode.owner, list(away.unreachable_replicas)) == ("other", ["other"])
        unheard = Wired("other", GetVNode=lambda _: pb.GetVNodeResponse(vnode=pb.VNode(name="vnode.new.dev")))
        assert (
            await reads(running, unheard).vnode(pb.GetVNodeRequest(name="new"), own=False)
        ).vnode.name == "vnode.new.dev"
        with pytest.raises(Missing):
            await reads(running, Wired("other")).vnode(pb.GetVNodeRequest(name="nobody"), own=False)


async def test_history_and_gateways_are_those_of_all() -> None:
    past = pb.PastOperation(vnode=THEIRS, name="theirs", version="1", time=Timestamp(seconds=1))
    async with stage() as running:
        running.put_pod("q", base="b2")
        await asyncio.sleep(2.0)
        (mine,) = running.gateways.all()
        others = Wired(
            "other",
            ListOperations=lambda _: pb.ListOperationsResponse(items=[past]),
            ListGateways=lambda _: pb.ListGatewaysResponse(
                items=[pb.Gateway(id=mine.link.info.gateway_id, watched=5), pb.Gateway(id="zz")]
            ),
        )
        found = await reads(running, others).past(pb.ListOperationsRequest(), own=False)
        assert [(item.vnode, item.name) for item in found.items] == [(THEIRS, "theirs"), (OURS, "biz1")]
        gateways = await reads(running, others).gateways(pb.ListGatewaysRequest(), own=False)
        assert [(item.id, item.watched) for item in gateways.items] == [
            (mine.link.info.gateway_id, 5 + running.roster.load[mine.link.info.gateway_id]),
            ("zz", 0),
        ]


async def test_a_rollout_asks_for_modules_without_pods_only_where_they_could_count() -> None:
    async with stage() as running:
        operations = Operations(running.cluster, running.roster, env="dev")
        rollouts = Rollouts(running.cluster, operations)
        targets = operations.select(all_bases=True)
        assert not rollouts.bare("biz1", "", operations.select(base="b1")), "a Pod asks for it there"
        assert not rollouts.bare("foreign", "", operations.select(base="b2")), "that one is ours"
        assert not rollouts.bare("foreign", "", None)
        assert rollouts.bare("foreign", "1", targets)
        others = Wired(
            "other",
            ListModules=lambda _: pb.ListModulesResponse(
                items=[pb.Module(vnode=THEIRS, name="foreign", version=version, ready=True) for version in ("1", "2")]
            ),
        )
        theirs, unreachable = await reads(running, others).bare("foreign", "1", within=1.0)
        assert unreachable == []
        found = rollouts.module("foreign", "1", targets, theirs)
        assert (found.desired, found.updated, found.available, found.done) == (2, 2, 2, True)
        assert not rollouts.module("foreign", "1", targets).done
