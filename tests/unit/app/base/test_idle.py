"""A base about which there is nothing new costs next to nothing, and is judged as if it were looked at all the time."""

import asyncio

import pytest

from controlplane.app.metrics import ACTOR_LOOKS
from controlplane.app.policy import Policy
from controlplane.domain.facts import BaseState, Health, Metaspace, ModuleList
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.lease import Times
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

B1 = BaseId("b1")


async def live(stage: Stage, seconds: float) -> None:
    """Let the base live as gateways report an idle one: the same list every 3 s, health and heartbeat every 12 s."""
    used = 0
    for number in range(int(seconds / 3)):
        listed = ModuleList((), complete=True, unchanged=True, epoch=stage.bases.watches[B1].epoch)
        stage.router.report(stage.link, B1, listed)
        if number % 4 == 0:
            stage.bases.heartbeat(B1)
            used += 1000
            health = Health(BaseState.ACTIVATED, Metaspace(used, 1 << 28), "17", 4, heap=used, cpu=number * 3.0)
            stage.router.report(stage.link, B1, health)
        await asyncio.sleep(3.0)


async def idle(stage: Stage, modules: int = 0) -> None:
    """Begin with a base that is Ready and has so many modules, and from now on only lives."""
    stage.bases.add("b1")
    for number in range(modules):
        stage.put_pod(f"p{number}", module=f"biz{number}")
    await asyncio.sleep(5.0)
    stage.bases.silence(B1)
    await live(stage, 60.0)
    assert stage.ready("node", "b1") == "True"
    assert all(stage.ready("pod", f"p{number}") == "True" for number in range(modules))


@pytest.mark.parametrize("modules", [0, 10])
async def test_an_idle_base_is_looked_at_only_for_the_status_of_its_node(modules: int) -> None:
    async with Stage(Api()).running() as stage:
        await idle(stage, modules)
        before = ACTOR_LOOKS._value.get()
        await live(stage, 600.0)
        looks = ACTOR_LOOKS._value.get() - before
        # 300 reports: 200 lists, 50 heartbeats, 50 answers about health. The status of a Node is refreshed twice.
        assert looks <= 6
        assert stage.ready("node", "b1") == "True"


async def test_what_tools_read_is_never_old() -> None:
    async with Stage(Api()).running() as stage:
        await idle(stage)
        for _ in range(10):
            await live(stage, 12.0)
            base = stage.roster.heard(B1)
            assert base is not None
            assert base.usage is not None
            now = asyncio.get_running_loop().time()
            assert now - base.signs.last_seen <= 3.0
            assert now - base.signs.last_answered <= 3.0
            assert base.usage.metaspace == base.usage.heap
            assert stage.recorder._clock.wall() - base.usage.at <= 12.0


@pytest.mark.parametrize("modules", [0, 10])
async def test_silence_counts_from_the_last_sign_of_life(modules: int) -> None:
    async with Stage(Api()).running() as stage:
        await idle(stage, modules)
        await live(stage, 34.0)
        await asyncio.sleep(21.0)
        assert stage.ready("node", "b1") == "True"
        await asyncio.sleep(5.0)
        assert stage.ready("node", "b1") == "False"


@pytest.mark.parametrize("late", [0.0, 11.0, 20.0])
async def test_a_change_is_seen_at_once(late: float) -> None:
    async with Stage(Api()).running() as stage:
        await idle(stage)
        await asyncio.sleep(late)
        stage.put_pod("p")
        await asyncio.sleep(0.5)
        assert [key.name for _, key in stage.bases.installs] == ["biz1"]


@pytest.mark.parametrize(("duration", "most"), [(40, 6.3), (60, 3.2)])
async def test_leases_that_last_longer_are_renewed_less_often(duration: int, most: float) -> None:
    policy = Policy(replica="replica-0", env="dev", version="test", leases=Times(duration))
    async with Stage(Api(), policy).running() as stage:
        await idle(stage)
        lease = stage.lease()
        assert lease is not None
        assert lease["spec"]["leaseDurationSeconds"] == duration
        stage.api.calls.clear()
        await live(stage, 600.0)
        renewals = [call for call in stage.api.made("patch") if "vnode.b1.dev" in call.subject]
        assert len(renewals) <= most * 10
        assert stage.ready("node", "b1") == "True"
