"""What bases and modules cost the API server, and what a report costs us: counted, not timed."""

import asyncio
import gc
import sys
from collections import Counter
from itertools import pairwise

import pytest

from controlplane.app.base.surroundings import LOOKS_AT_ONCE
from controlplane.app.metrics import ACTOR_LOOKS
from controlplane.domain.facts import BaseState, Health, Metaspace, ModuleList, Reply, ReplyCode, Verb
from controlplane.domain.identity import BaseId
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

MODULES = 20


def written(stage: Stage) -> Counter[str]:
    """Return how often each kind of write was made, renewals of leases left out."""
    calls = [call for verb in ("create", "patch", "delete") for call in stage.api.made(verb)]
    kinds = (f"{c.verb} {c.resource.plural}{'/' if c.subresource else ''}{c.subresource}" for c in calls)
    return Counter(kind for kind in kinds if kind != "patch leases")


async def test_a_base_costs_a_lease_and_a_node() -> None:
    async with Stage(Api()).running() as stage:
        stage.api.calls.clear()
        for number in range(5):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(60.0)
        assert written(stage) == {"create leases": 5, "create nodes": 5}


async def test_of_many_actors_a_few_look_in_one_turn_of_the_loop() -> None:
    many = 10 * LOOKS_AT_ONCE
    async with Stage(Api()).running() as stage:
        for number in range(many):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(30.0)
        stage.roster.touch(asyncio.get_running_loop().time())
        looks = [ACTOR_LOOKS._value.get()]
        for _ in range(5 * many):
            await asyncio.sleep(0)
            looks.append(ACTOR_LOOKS._value.get())
        assert looks[-1] - looks[0] >= many
        assert max(after - before for before, after in pairwise(looks)) <= LOOKS_AT_ONCE


async def test_an_install_costs_one_status_and_an_uninstall_one_deletion_and_few_looks() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.api.calls.clear()
        stage.link.watches.clear()
        before = ACTOR_LOOKS._value.get()
        for number in range(MODULES):
            stage.put_pod(f"p{number}", module=f"biz{number}")
            await asyncio.sleep(0.3)
        # Two, and what many share.
        assert ACTOR_LOOKS._value.get() - before <= 2.5 * MODULES
        await asyncio.sleep(30.0)
        assert len(stage.link.watches) <= 0.25 * MODULES
        assert all(stage.ready("pod", f"p{number}") == "True" for number in range(MODULES))
        assert written(stage) == {"patch pods/status": MODULES}
        stage.api.calls.clear()
        before = ACTOR_LOOKS._value.get()
        for number in range(MODULES):
            stage.delete_pod(f"p{number}")
            await asyncio.sleep(0.3)
        # For its deletion, its result and the list that shows it gone.
        assert ACTOR_LOOKS._value.get() - before <= 3.2 * MODULES
        await asyncio.sleep(60.0)
        assert all(stage.pod(f"p{number}") is None for number in range(MODULES))
        assert written(stage) == {"delete pods": MODULES}


async def test_a_pod_whose_module_left_gets_no_status_while_the_list_that_confirms_it_is_late() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(15.0)
        stage.api.calls.clear()
        # The base carries out orders, and its lists come late.
        stage.bases.silence(base)
        stage.delete_pod("p")
        await asyncio.sleep(4.0)
        assert stage.bases.modules[base] == {}
        stage.bases.alive.add(base)
        stage.bases.poll(base)
        await asyncio.sleep(30.0)
        assert stage.pod("p") is None
        assert written(stage) == {"delete pods": 1}


async def test_what_went_wrong_and_what_was_done_after_it_is_worth_an_event() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.bases.answer[Verb.INSTALL] = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: no such jar")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        del stage.bases.answer[Verb.INSTALL]
        stage.api.calls.clear()
        await asyncio.sleep(60.0)
        assert stage.ready("pod", "p") == "True"
        (event,) = (call.body for call in stage.api.made("create") if call.body is not None)
        assert (event["reason"], event["message"]) == ("ModuleInstalled", "install of biz1:1 on b1 done")


async def test_reports_that_say_nothing_new_leave_nothing_behind() -> None:
    async with Stage(Api()).running() as stage:
        b1 = BaseId("b1")
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.silence(b1)
        epoch = stage.bases.watches[b1].epoch

        def report(times: int) -> None:
            for _ in range(times):
                stage.router.report(stage.link, b1, ModuleList((), complete=True, unchanged=True, epoch=epoch))
                stage.bases.heartbeat(b1)
                stage.router.report(
                    stage.link, b1, Health(BaseState.ACTIVATED, Metaspace(1000, 1 << 28), "17", 4, heap=5, cpu=1.0)
                )

        report(10)
        await asyncio.sleep(1.0)
        report(10)
        gc.collect()
        before = sys.getallocatedblocks()
        report(5_000)
        gc.collect()
        assert sys.getallocatedblocks() - before < 1_000, "less than one for five reports"
