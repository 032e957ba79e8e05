"""Looks and retries with a common cause are spread, so that an outage does not end in a burst."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.app.base.actor import SUSPENDED_LOOK, BaseActor
from controlplane.app.events import Recorder
from controlplane.app.ownership.membership import LOOK, Membership
from controlplane.app.ports import Conflict
from controlplane.cluster.adapter import ApiCluster
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Lease
from controlplane.domain.ownership.member import Member
from gateways.mqtt.orders import AGAIN, Outcomes
from mqttclient.receipts import Acknowledgements
from tests.unit.app.harness import Api, LoopClock
from tests.unit.app.ownership.replicas import replicas

pytestmark = pytest.mark.looptime

MANY = 40


def crowd(times: Iterable[float], *, within: float) -> int:
    """Return how many times fall at most into one window of that length."""
    return max(Counter(int(at / within) for at in times).values())


def gaps(series: Iterable[list[float]]) -> list[float]:
    """Return the seconds between consecutive times of each series."""
    return [late - early for times in series for early, late in pairwise(times)]


async def test_actors_of_a_suspended_replica_do_not_look_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: dict[BaseId, list[float]] = defaultdict(list)
    look = BaseActor._look

    async def noted(self: BaseActor) -> tuple[float | None, float | None]:
        looks[self._base.id].append(asyncio.get_running_loop().time())
        return await look(self)

    async with replicas("r0", bases=MANY) as those:
        await asyncio.sleep(20.0)
        those.stages["r0"].bases.silence(*those.stages["r0"].bases.modules)
        those.connections["r0"].cut = True
        await asyncio.sleep(15.0)
        assert not those.stages["r0"].members.may_act()
        monkeypatch.setattr(BaseActor, "_look", noted)
        await asyncio.sleep(5.0)
        monkeypatch.undo()
    assert len(looks) == MANY
    assert len(gaps(looks.values())) > MANY
    assert all(SUSPENDED_LOOK * 0.5 <= gap <= SUSPENDED_LOOK * 1.5 + 0.01 for gap in gaps(looks.values()))
    assert crowd((at for times in looks.values() for at in times), within=0.1) < MANY / 2


async def test_replicas_whose_member_lease_is_taken_do_not_retry_in_step() -> None:
    api, clock, tries = Api(), LoopClock(), defaultdict[str, list[float]](list)

    class Contended(ApiCluster):
        async def create_lease(self, lease: Lease) -> Lease:
            tries[lease.name].append(clock.monotonic())
            raise Conflict("somebody else wrote it")

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(MANY):
            cluster = Contended(api, env="dev", kind="test", clock=clock)
            recorder = Recorder(cluster, clock, env="dev", own="default/module-controller-r0")
            member = Member(f"r{number}", "one", "", "default", "dev")
            tasks.append(group.create_task(cluster.run()))
            tasks.append(group.create_task(Membership(cluster, clock, member, recorder, random=Random(number)).run()))
        await asyncio.sleep(5.0)
        for task in tasks:
            task.cancel()
    assert len(tries) == MANY
    assert len(gaps(tries.values())) > MANY
    assert all(LOOK * 0.5 <= gap <= LOOK * 1.5 + 0.01 for gap in gaps(tries.values()))
    assert crowd((times[-1] for times in tries.values()), within=0.025) < MANY / 2


async def test_gateways_that_cannot_report_a_batch_do_not_retry_in_step() -> None:
    tries: dict[int, list[float]] = defaultdict(list)

    def gateway(number: int) -> Outcomes:
        def report(_report: pb.Report) -> bool:
            tries[number].append(asyncio.get_running_loop().time())
            return False

        return Outcomes(report)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(MANY):
            outcomes = gateway(number)
            outcomes.batch(
                pb.Report(base_id="a", batch_install_result=pb.BatchInstallResult()),
                Acknowledgements(lambda _: None).received(1),
            )
            tasks.append(group.create_task(outcomes.keep_reporting()))
        await asyncio.sleep(10.0)
        for task in tasks:
            task.cancel()
    assert len(gaps(tries.values())) > MANY
    assert all(AGAIN * 0.5 <= gap <= AGAIN * 1.5 + 0.01 for gap in gaps(tries.values()))
    assert crowd((times[-1] for times in tries.values()), within=0.1) < MANY / 2
