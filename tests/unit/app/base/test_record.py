"""The record of installed modules survives Node, Lease and control plane, and costs no write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controlplane.app.ownership.sweep import RECORD_KEPT
from controlplane.cluster.api import DEPLOYMENTS, LEASES, NODES
from controlplane.domain.facts import BaselineQuery, ClientCode, Module, ModuleState, OrderResult, Reply, ReplyCode
from controlplane.domain.identity import BaseId, ModuleKey, OrderId
from controlplane.domain.times import micro_time
from tests.unit.app.harness import HOME, Api, Stage
from tests.unit.app.ownership.test_sweep import SWEPT, left_over
from tests.unit.app.workloads.test_followers import put_deployment

pytestmark = pytest.mark.looptime

KEY, BY_HAND = ModuleKey("biz1", "1"), ModuleKey("by-hand", "1")
INSTALLED = "module.koupleless.io/installed"
GRACE = 60.0
"""Seconds after which a module of ours without a Pod is gone: the grace time, a poll, and the uninstall."""


def record(stage: Stage, base: str = "b1") -> str:
    lease = stage.lease(base)
    return "" if lease is None else str(lease["metadata"].get("annotations", {}).get(INSTALLED, ""))


@asynccontextmanager
async def later(api: Api, modules: dict[BaseId, dict[ModuleKey, ModuleState]]) -> AsyncIterator[Stage]:
    """Run another control plane, with a base that has what it had."""
    stage = Stage(api)
    stage.bases.modules = modules
    async with stage.running():
        stage.bases.add("b1")
        yield stage


async def test_modules_of_ours_are_removed_from_a_base_that_returns_after_its_node_was_gone() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.modules[base][BY_HAND] = ModuleState.ACTIVATED
        stage.bases.silence(base)
        await asyncio.sleep(90.0)
        assert stage.node() is None
        stage.remove_pod("p")
        await asyncio.sleep(3600.0)
        stage.bases.add("b1")
        await asyncio.sleep(GRACE)
        assert stage.bases.modules[base] == {BY_HAND: ModuleState.ACTIVATED}
        await asyncio.sleep(20.0)
        assert record(stage) == "{}"


async def test_a_module_whose_pod_goes_while_the_control_plane_is_down_is_removed() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(20.0)
        modules = stage.bases.modules
        modules[base][BY_HAND] = ModuleState.ACTIVATED
    stage.remove_pod("p")
    stage.api.remove(NODES, "vnode.b1.dev")
    async with later(api, modules) as stage:
        await asyncio.sleep(GRACE)
        assert modules[base] == {BY_HAND: ModuleState.ACTIVATED}


async def test_a_module_that_was_never_recorded_is_removed_if_a_later_term_saw_its_pod() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(15.0)
        modules = stage.bases.modules
    # Installed by a process that was killed before it renewed the Lease.
    stage.put_pod("p")
    modules[base].update({KEY: ModuleState.ACTIVATED, BY_HAND: ModuleState.ACTIVATED})
    api.calls.clear()
    silent = Stage(api)
    async with silent.running():
        assert "biz1" in record(silent)
        assert renewals(silent) == 1, "the write that begins the term"
    stage.remove_pod("p")
    async with later(api, modules) as stage:
        await asyncio.sleep(GRACE)
        assert modules[base] == {BY_HAND: ModuleState.ACTIVATED}


async def test_what_a_pod_wants_is_recorded_along_with_the_next_renewal_also_while_nothing_can_be_ordered() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.disconnect()
        stage.api.calls.clear()
        stage.put_pod("p")
        await asyncio.sleep(12.0)
        assert "biz1" in record(stage)
        assert renewals(stage) <= 2


async def test_deleting_a_lease_by_hand_loses_no_record() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(3.0)
        stage.api.remove(LEASES, "vnode.b1.dev", "kube-node-lease")
        stage.remove_pod("p")
        await asyncio.sleep(30.0)
        assert record(stage) != ""
        await asyncio.sleep(GRACE)
        assert stage.bases.modules[base] == {}


async def test_the_gateway_reports_what_a_dead_predecessor_installed_last() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(15.0)
        modules = stage.bases.modules
    modules[base][KEY] = ModuleState.ACTIVATED
    async with later(api, modules) as stage:
        await asyncio.sleep(2.0)
        done = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(Module(KEY, ModuleState.ACTIVATED),))
        stage.router.report(stage.link, base, OrderResult(OrderId("of-the-last-term"), done))
        await asyncio.sleep(GRACE + 20.0)
        assert modules[base] == {}


async def test_a_record_of_an_earlier_version_on_the_node_counts_until_the_lease_has_one() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(15.0)
        modules = stage.bases.modules
    modules[base] |= {KEY: ModuleState.ACTIVATED, BY_HAND: ModuleState.ACTIVATED}
    node, lease = api.named(NODES, "vnode.b1.dev"), api.named(LEASES, "vnode.b1.dev", "kube-node-lease")
    assert node is not None
    assert lease is not None
    node["metadata"]["annotations"][INSTALLED] = '{"biz1:1":"d"}'
    api.put(NODES, node)
    del lease["metadata"]["annotations"][INSTALLED]
    api.put(LEASES, lease)
    async with later(api, modules) as stage:
        await asyncio.sleep(GRACE)
        assert modules[base] == {BY_HAND: ModuleState.ACTIVATED}
    modules[base][KEY] = ModuleState.ACTIVATED
    async with later(api, modules) as stage:
        await asyncio.sleep(GRACE)
        assert KEY in modules[base], "the record on the Node is out of date"


async def test_a_replica_that_ends_writes_what_it_did_not_record_yet() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(11.0)
        stage.put_pod("p")
        await asyncio.sleep(1.0)
        await stage.fleet.retire()
        assert "biz1:1" in record(stage)


@pytest.mark.parametrize(("age", "kept"), [(0.0, True), (RECORD_KEPT - 3600, True), (RECORD_KEPT + 3600, False)])
async def test_records_of_absent_bases_are_removed_after_a_week(age: float, kept: bool) -> None:
    api = Api()
    lease = left_over("b1", holder="")
    lease["metadata"]["annotations"] = {INSTALLED: '{"biz1:1":"d"}'}
    lease["spec"]["renewTime"] = micro_time(1_790_000_000.0 - age)
    api.put(LEASES, lease)
    async with Stage(api).running() as stage:
        await asyncio.sleep(SWEPT)
        assert (stage.lease("b1") is not None) is kept


@pytest.mark.parametrize("known", [True, False])
async def test_the_baseline_of_a_starting_base_is_recorded_at_once(known: bool) -> None:
    api = Api()
    async with Stage(api).running() as stage:
        put_deployment(api)
        if known:
            stage.bases.add("b1")
        await asyncio.sleep(7.0)
        stage.router.report(stage.link, BaseId("b1"), BaselineQuery("q", "shop", "1.0.0", "default", HOME))
        base = stage.bases.add("b1")
        stage.bases.modules[base][KEY] = ModuleState.ACTIVATED
        await asyncio.sleep(1.0)
        assert "biz1:1" in record(stage), "only the record shows that it is ours: there is no Pod for it yet"
        modules = stage.bases.modules
    api.remove(DEPLOYMENTS, "biz1", "default")
    async with later(api, modules) as stage:
        await asyncio.sleep(GRACE + 20.0)
        assert modules[base] == {}


def renewals(stage: Stage) -> int:
    """Return how often the Lease of the base was written since it was made."""
    return len([c for c in stage.api.made("patch") if c.resource == LEASES and c.subject.endswith("vnode.b1.dev")])


async def test_a_module_whose_pod_is_removed_by_force_is_recorded_at_once_and_once() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        # The first renewal is over, the second far away.
        await asyncio.sleep(12.5)
        stage.put_pod("p")
        await asyncio.sleep(1.0)
        stage.api.calls.clear()
        stage.remove_pod("p")
        await asyncio.sleep(1.0)
        assert "biz1:1" in record(stage), "this replica and its gateways may all be killed before the next renewal"
        assert renewals(stage) == 1


async def test_a_result_of_an_earlier_term_is_no_sign_of_life() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        known = stage.roster.get(base)
        assert known is not None
        done = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(Module(KEY, ModuleState.ACTIVATED),))
        stage.bases.poll = lambda base: None  # type: ignore[method-assign]
        stage.router.report(stage.link, base, OrderResult(OrderId("of-the-last-term"), done))
        await asyncio.sleep(1.0)
        stage.roster.touch(asyncio.get_running_loop().time(), [base])
        await asyncio.sleep(1.0)
        now = stage.roster.get(base)
        assert now is not None
        assert now is not known, "it was looked at"
        assert now.signs.last_answered == known.signs.last_answered


async def test_installs_cost_no_write_of_the_record() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(30.0)
        stage.api.calls.clear()
        await asyncio.sleep(60.0)
        idle = renewals(stage)
        stage.api.calls.clear()
        for number in range(20):
            stage.put_pod(f"p{number}", module=f"biz{number}")
        await asyncio.sleep(60.0)
        busy = renewals(stage)
        assert busy <= idle + 2
        assert record(stage).count("biz") == 20
