"""Invented bases: few are examined at a time, those that answer go on at once, and all that they cost is given back."""

import asyncio
from dataclasses import replace

import pytest

from controlplane.app.policy import Policy
from controlplane.app.unserved import KEPT, Unserved, UnservedBases
from controlplane.cluster.api import LEASES
from controlplane.domain.facts import Address, BaseState, GatewayInfo, Heartbeat, TunnelKind, Way
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.admissions import AT_ONCE, OF_ONE_SOURCE
from tests.unit.app.harness import ADDRESS, Api, Stage

pytestmark = pytest.mark.looptime

GATEWAY = GatewayInfo("gateway-1", "i", TunnelKind.HTTP, "1", 0.0)
MANY = 1_000


def invent(stage: Stage, count: int, *, wave: int = 0, peer: str = "10.0.0.66") -> None:
    for number in range(count):
        stage.bases.heartbeat(f"invented-{wave}-{number}", ADDRESS, peer=peer)


def examined(stage: Stage) -> int:
    return sum(not base.admitted for base in stage.roster.bases())


async def test_a_flood_of_inventions_costs_few_writes_and_a_good_base_becomes_a_node_meanwhile() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("known")
        await asyncio.sleep(5.0)
        stage.api.calls.clear()
        invent(stage, MANY)
        await asyncio.sleep(1.0)
        assert examined(stage) == OF_ONE_SOURCE
        stage.bases.add("newcomer")
        await asyncio.sleep(3.0)
        assert stage.ready("node", "newcomer") == "True"
        assert stage.ready("node", "known") == "True"
        assert len(stage.api.made("create")) < 2 * AT_ONCE
        await asyncio.sleep(2 * KEPT + 60.0)
        assert examined(stage) == 0
        assert not [key for key in stage.api.names(LEASES) if "invented" in key]
        assert not stage.roster.unserved()
        assert "CommandsFail" not in stage.reasons()
        assert "VNodeRemoved" not in stage.reasons()


async def test_inventions_that_keep_coming_each_once_do_not_keep_a_newcomer_of_the_same_source_out() -> None:
    async with Stage(Api()).running() as stage:
        invent(stage, MANY, peer=ADDRESS.ip)
        stage.bases.add("newcomer")
        for wave in range(1, 5):
            await asyncio.sleep(5.0)
            invent(stage, MANY, wave=wave, peer=ADDRESS.ip)
        assert stage.ready("node", "newcomer") == "True"


async def test_a_base_that_does_not_answer_keeps_its_place_while_nobody_else_wants_it() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.stopped.add(BaseId("invented-0-0"))
        for _ in range(4):
            invent(stage, 1)
            await asyncio.sleep(10.0)
        assert examined(stage) == 1
        assert "BaseUnreachable" in stage.reasons()


async def test_beyond_the_most_bases_new_ones_are_refused_and_said_once() -> None:
    policy = Policy(replica="replica-0", env="dev", version="test", most_bases=2)
    async with Stage(Api(), policy).running() as stage:
        for name in ("b1", "b2"):
            stage.bases.add(name)
        await asyncio.sleep(5.0)
        for _ in range(3):
            stage.bases.add("b3")
            await asyncio.sleep(2.0)
        assert stage.node("b3") is None
        assert stage.ready("node", "b1") == "True"
        (refused,) = [h.remark.message for h in stage.recorder.recent() if h.remark.reason == "TooManyBases"]
        assert "MAX_BASES=2" in refused
        made = [call.body or {} for call in stage.api.made("create") if call.resource.kind == "Event"]
        (event,) = [event for event in made if event["reason"] == "TooManyBases"]
        about = event["involvedObject"]
        assert (about["apiVersion"], about["kind"]) == ("coordination.k8s.io/v1", "Lease")


def last(peer: str, at: float = 0.0) -> Unserved[Heartbeat]:
    sent = Heartbeat("n", "1", "c", "h", Address(peer, 1), BaseState.ACTIVATED, Way(peer=peer))
    return Unserved(sent, GATEWAY, at)


def test_when_all_is_full_the_largest_source_makes_room() -> None:
    kept = UnservedBases()
    for number in range(10):
        assert kept.keep(BaseId(f"a{number}"), last("10.0.0.1"), room=True)
    assert kept.keep(BaseId("b"), last("10.0.0.2"), room=False)
    assert len(kept) == 10
    assert kept.get(BaseId("a9")) is None
    assert not kept.keep(BaseId("a10"), last("10.0.0.1"), room=False)
    assert kept.keep(BaseId("a0"), last("10.0.0.1", 5.0), room=False), "it has its place"


def test_what_is_kept_says_since_when_and_is_forgotten() -> None:
    kept = UnservedBases()
    kept.keep(BaseId("a"), last("10.0.0.1", 1.0), room=True)
    kept.keep(BaseId("a"), last("10.0.0.2", 20.0), room=True)
    assert kept.get(BaseId("a")) == replace(last("10.0.0.2", 20.0), since=1.0)
    kept.sweep(20.0 + KEPT)
    assert len(kept) == 0
