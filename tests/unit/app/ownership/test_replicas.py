"""Replicas over one API server take over, hand over, balance and drain bases, each under a name of its own."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.app.events import Recorder
from controlplane.app.metrics import HANDOVERS, HANDOVERS_FAILED, WRITES
from controlplane.app.ownership.membership import LEAVE_TRIES, Membership, NameTaken
from controlplane.app.policy import Policy
from controlplane.app.ports import Conflict, Transient
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import LEASES, Resource
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Lease
from controlplane.domain.ownership import replicas as rules
from controlplane.domain.ownership.member import Member
from tests.unit.app.harness import Api, LoopClock, Stage
from tests.unit.app.ownership.replicas import replicas

pytestmark = pytest.mark.looptime


async def test_each_base_has_one_owner_and_loads_are_even() -> None:
    async with replicas("r0", "r1", "r2", bases=30) as those:
        await asyncio.sleep(30.0)
        assert those.each_has_one_owner()
        assert max(those.loads().values()) <= 11


async def test_bases_of_a_replica_that_failed_are_taken_over_and_shared_out() -> None:
    async with replicas("r0", "r1", "r2", bases=12) as those:
        await asyncio.sleep(20.0)
        await those.end("r0")
        await asyncio.sleep(rules.DURATION - 2.5)
        assert not those.each_has_one_owner(), "nobody may begin before the member lease expired"
        await asyncio.sleep(4.0)
        assert those.each_has_one_owner()
        assert those.loads() == {"r1": 6, "r2": 6}


async def test_bases_of_a_replica_that_leaves_are_taken_within_two_seconds() -> None:
    async with replicas("r0", "r1", "r2", bases=12) as those:
        await asyncio.sleep(20.0)
        leaving = those.stages["r0"]
        await those.leave("r0")
        await asyncio.sleep(1.0)
        assert those.each_has_one_owner()
        assert those.loads() == {"r1": 6, "r2": 6}
        assert "ReplicaCutOff" not in leaving.reasons(), "it was asked to end"


@pytest.mark.parametrize("late", range(1, 6))
async def test_bases_are_taken_at_once_also_where_replicas_see_different_leases(late: int) -> None:
    async with replicas("r0", "r1", "r2", bases=30) as those:
        await asyncio.sleep(30.0)
        those.connections["r2"].keeps_up.clear()
        for number in range(late):
            those.stages["r1"].bases.add(f"late{number}")
        await asyncio.sleep(2.0)
        await those.leave("r0")
        await asyncio.sleep(0.2)
        those.connections["r2"].keeps_up.set()
        await asyncio.sleep(0.8)
        assert those.each_has_one_owner()


async def test_a_second_process_of_a_name_is_refused_and_the_first_one_goes_on() -> None:
    async with replicas("r0", bases=2) as those:
        second = Stage(those.api, Policy(replica="r0", env="dev", version="test"), sole=False)
        with pytest.raises(BaseExceptionGroup) as raised:
            async with second.running():
                await asyncio.sleep(15.0)
        refused: BaseException | None = raised.value.subgroup(NameTaken)
        while isinstance(refused, BaseExceptionGroup):
            refused = refused.exceptions[0]
        assert "CLIENT_ID=r0" in str(refused)
        assert those.loads() == {"r0": 2}


async def test_a_restart_under_the_same_name_waits_until_the_member_lease_expires() -> None:
    async with replicas("r0", bases=2) as those:
        await those.end("r0")
        await those.start("r0")
        those.add("b0", "b1")
        await asyncio.sleep(rules.DURATION - 1.5)
        assert not those.loads()
        await asyncio.sleep(3.0)
        assert those.loads() == {"r0": 2}


async def test_a_replica_that_is_cut_off_stops_loses_its_bases_and_gets_some_again() -> None:
    async with replicas("r0", "r1", bases=8) as those:
        await asyncio.sleep(20.0)
        assert those.loads() == {"r0": 4, "r1": 4}
        those.connections["r0"].cut = True
        await asyncio.sleep(5.5)
        assert those.loads() == {"r1": 4}, "it stopped by itself, and nobody may begin yet"
        await asyncio.sleep(5.5)
        assert those.loads() == {"r1": 8}
        those.connections["r0"].cut = False
        await asyncio.sleep(30.0)
        assert those.each_has_one_owner()
        assert those.loads() == {"r0": 4, "r1": 4}


async def test_a_replica_that_joins_gets_its_share_with_as_few_moves_as_needed() -> None:
    async with replicas("r0", "r1", bases=60) as those:
        await asyncio.sleep(30.0)
        before = those.api.moves
        await those.start("r2")
        those.add(*(f"b{number}" for number in range(60)))
        await asyncio.sleep(60.0)
        assert those.each_has_one_owner()
        assert max(those.loads().values()) / 20 <= 1.10
        assert those.api.moves - before <= 22
        moves = those.api.moves
        await asyncio.sleep(60.0)
        assert those.api.moves == moves, "loads that are even stay as they are"


async def test_a_draining_replica_has_no_bases_until_draining_ends() -> None:
    async with replicas("r0", "r1", bases=10) as those:
        await asyncio.sleep(20.0)
        await those.stages["r1"].members.drain("r0", draining=True, user="ann")
        await asyncio.sleep(5.0)
        assert those.loads() == {"r1": 10}
        those.add("late")
        await asyncio.sleep(5.0)
        assert those.loads() == {"r1": 11}
        await those.stages["r1"].members.drain("r0", draining=False, user="ann")
        await asyncio.sleep(30.0)
        assert those.loads()["r0"] in (5, 6)


async def test_a_replica_without_gateways_gives_its_bases_away_after_a_while() -> None:
    async with replicas("r0", "r1", bases=10) as those:
        await asyncio.sleep(20.0)
        those.stages["r0"].disconnect()
        await asyncio.sleep(9.0)
        assert those.loads()["r0"] == 5, "gateways that restart are given time"
        await asyncio.sleep(10.0)
        assert those.loads() == {"r1": 10}
        those.stages["r0"].connect()
        await asyncio.sleep(30.0)
        assert those.loads() == {"r0": 5, "r1": 5}


async def test_a_node_whose_lease_is_deleted_while_its_holder_is_cut_off_is_taken() -> None:
    async with replicas("r0", "r1", bases=4) as those:
        await asyncio.sleep(20.0)
        mine = next(base for base, owners in those.owners().items() if owners == ["r0"])
        those.connections["r0"].cut = True
        those.api.remove(LEASES, f"vnode.{mine}.dev", "kube-node-lease")
        for _ in range(200):
            await asyncio.sleep(0.25)
            assert len(those.owners()[mine]) <= 1
        assert those.owners()[mine] == ["r1"]


async def test_a_try_that_was_under_way_takes_no_base_whose_lease_was_deleted_meanwhile() -> None:
    async with replicas("r0", "r1", bases=4) as those:
        await asyncio.sleep(20.0)
        theirs = next(base for base, owners in those.owners().items() if owners == ["r1"])
        those.connections["r1"].keeps_up.clear()
        those.api.remove(LEASES, f"vnode.{theirs}.dev", "kube-node-lease")
        await asyncio.sleep(1.0)
        assert those.owners()[theirs] == ["r1"], "it does not know yet"
        assert await those.stages["r0"].leases.acquire(BaseId(theirs)) == 0
        await those.end("r1")
        await asyncio.sleep(15.0)
        assert those.owners()[theirs] == ["r0"], "as soon as the other one is gone"


async def test_a_new_base_goes_to_the_replica_with_fewer() -> None:
    async with replicas("r0", clustered=True, bases=6) as those:
        await those.start("r1")
        for number in range(3):
            for stage in those.stages.values():
                stage.bases.add(f"new{number}")
        await asyncio.sleep(2.0)
        owners = those.owners()
        assert [owners[f"new{number}"] for number in range(3)] == [["r1"]] * 3


@pytest.mark.parametrize("clustered", [False, True])
async def test_new_bases_are_tried_by_one_replica_while_writes_take_long(*, clustered: bool) -> None:
    async with replicas("r0", "r1", "r2", clustered=clustered) as those:
        for connection in those.connections.values():
            connection.create_after = 0.4
        before = WRITES.labels("lease-create")._value.get()
        for number in range(30):
            those.add(f"b{number}")
            await asyncio.sleep(0.03)
        await asyncio.sleep(5.0)
        assert those.each_has_one_owner()
        assert WRITES.labels("lease-create")._value.get() - before <= 35


async def test_a_member_lease_deleted_during_a_look_at_another_breaks_nothing() -> None:
    async with replicas("r0", "r1", "r2", bases=3) as those:
        await asyncio.sleep(10.0)
        read = those.api.get

        async def slow(resource: Resource, name: str, namespace: str = "") -> Any:
            if resource == LEASES and name == "module-controller-r1":
                those.api.remove(LEASES, "module-controller-r2", "default")
                await asyncio.sleep(0.1)
            return await read(resource, name, namespace)

        those.api.get = slow  # type: ignore[method-assign]
        await those.end("r2")
        await asyncio.sleep(0.1)
        await those.end("r1")
        await asyncio.sleep(55.0)
        assert those.loads() == {"r0": 3}


async def test_a_replaced_process_does_not_release_the_member_lease_of_its_successor() -> None:
    api, clock = Api(), LoopClock()

    def process(instance: str) -> Membership:
        cluster = ApiCluster(api, env="dev", kind="test", clock=clock)
        group.create_task(cluster.run())
        member = Member("r0", instance, "", "default", "dev")
        recorder = Recorder(cluster, clock, env="dev", own="default/module-controller-r0")
        return Membership(cluster, clock, member, recorder, random=Random(7), sole=True)

    async with asyncio.TaskGroup() as group:
        frozen, follower = process("one"), process("two")
        running = group.create_task(frozen.run())
        await frozen.joined.wait()
        running.cancel()
        following = group.create_task(follower.run())
        await follower.joined.wait()
        await asyncio.sleep(1.0)
        await frozen.leave()
        record = api.named(LEASES, "module-controller-r0", "default")
        assert record is not None
        assert record["spec"]["holderIdentity"] == "r0"
        await asyncio.sleep(5.0)
        assert follower.may_act()
        following.cancel()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


async def test_a_term_that_began_while_cut_off_takes_effect_later() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        api.delay["create"] = 7.0
        stage.bases.add("b1")
        await asyncio.sleep(0.5)
        api.fail("patch", *[Transient("the API server is away")] * 18)
        await asyncio.sleep(6.8)
        assert not stage.members.may_act(), "the reply came while the replica must not act"
        api.delay.clear()
        api._failures.clear()
        await asyncio.sleep(10.0)
        assert stage.ready("node", "b1") == "True"


async def test_no_base_is_taken_on_outdated_caches() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        api.fail("watch", *[Transient("the API server is away")] * 50)
        api.end_watches(Transient("the API server is away"))
        await asyncio.sleep(0.2)
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        assert stage.lease() is None
        api._failures.clear()
        await asyncio.sleep(12.0)
        api.bookmark()
        await asyncio.sleep(3.0)
        assert stage.lease() is not None


async def test_an_outage_is_logged_once_and_so_is_its_end() -> None:
    async with replicas("r0") as those:
        await asyncio.sleep(10.0)
        with capture_logs() as logs:
            those.connections["r0"].cut = True
            await asyncio.sleep(30.0)
            those.connections["r0"].cut = False
            await asyncio.sleep(10.0)
        events = Counter(entry["event"] for entry in logs)
        assert (events["member lease not renewed"], events["member lease renewed again"]) == (1, 1)


def write_conflicts(stage: Stage, holder: str) -> list[str]:
    """Make every write of a Lease for a holder conflict; return the growing list of names of such Leases."""
    refused: list[str] = []
    update = stage.cluster.update_lease

    async def conflict(lease: Lease) -> Lease:
        if lease.holder == holder:
            refused.append(lease.name)
            raise Conflict("somebody else wrote it")
        return await update(lease)

    stage.cluster.update_lease = conflict  # type: ignore[method-assign]
    return refused


async def test_a_base_that_cannot_be_given_stays_and_is_counted_as_failed() -> None:
    def counted() -> tuple[float, float]:
        return HANDOVERS.labels("drain")._value.get(), HANDOVERS_FAILED.labels("drain")._value.get()

    async with replicas("r0", "r1", bases=4) as those:
        await asyncio.sleep(20.0)
        before = counted()
        kept = {base for base, owners in those.owners().items() if owners == ["r0"]}
        refused = write_conflicts(those.stages["r0"], "r1")
        with capture_logs() as logs:
            await those.stages["r0"].members.drain("r0", draining=True, user="ann")
            await asyncio.sleep(10.0)
        given, failed = counted()
        assert (given, failed) == (before[0], before[1] + len(refused) / 3)
        assert failed > before[1]
        warnings = [entry for entry in logs if entry["event"] == "base not given"]
        assert {entry["base"] for entry in warnings} == kept
        assert all(entry["log_level"] == "warning" and "tried 3 times" in entry["cause"] for entry in warnings)
        await those.stages["r0"].members.drain("r0", draining=False, user="ann")
        await asyncio.sleep(5.0)
        assert {base for base, owners in those.owners().items() if owners == ["r0"]} == kept


async def test_a_member_lease_that_cannot_be_released_is_logged() -> None:
    async with replicas("r0", bases=1) as those:
        refused = write_conflicts(those.stages["r0"], "")
        with capture_logs() as logs:
            await those.stages["r0"].members.leave()
        assert refused == ["module-controller-r0"] * LEAVE_TRIES
        (entry,) = [entry for entry in logs if entry["event"].startswith("member lease not released")]
        assert (entry["log_level"], entry["cause"]) == ("warning", "somebody else wrote it")
