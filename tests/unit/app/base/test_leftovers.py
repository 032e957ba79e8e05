"""Modules without a Pod, of baselines or after failed orders are uninstalled, left or installed again."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from controlplane.app.policy import Policy
from controlplane.domain.base.modules import BASELINE_HOLD, BASELINE_WAIT
from controlplane.domain.base.planner import ModulePolicy, OrphanPolicy
from controlplane.domain.facts import (
    BaselineQuery,
    BatchInstalled,
    ClientCode,
    Module,
    ModuleList,
    ModuleState,
    OutcomeUnknown,
    PollFailed,
    Refusal,
    Refused,
    Reply,
    ReplyCode,
    TunnelKind,
    Verb,
    Way,
)
from controlplane.domain.identity import BaseId, ModuleKey
from tests.unit.app.harness import HOME, Api, Stage
from tests.unit.app.workloads.test_followers import put_deployment

pytestmark = pytest.mark.looptime

KEY, OTHER = ModuleKey("biz1", "1"), ModuleKey("biz2", "1")
FAILURE = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: java.lang.IllegalStateException: no")
NOT_FOUND = Reply(ReplyCode.FAILED, ClientCode.NOT_FOUND_BIZ, "Uninstall biz: biz1:1 not found.")


def policy(orphans: OrphanPolicy) -> Policy:
    return Policy(replica="replica-0", env="dev", version="test", modules=ModulePolicy(orphans=orphans))


async def orphan(stage: Stage) -> BaseId:
    """Leave a module of ours without a Pod, as a forced deletion does."""
    base = stage.bases.add("b1")
    stage.put_pod("p")
    await asyncio.sleep(5.0)
    stage.remove_pod("p")
    return base


async def test_an_orphan_that_is_gone_is_uninstalled_once() -> None:
    """In the original each such answer led to the next uninstall, at network speed, until cancelled."""
    async with Stage(Api()).running() as stage:
        base = await orphan(stage)
        stage.bases.answer[Verb.UNINSTALL] = NOT_FOUND
        await asyncio.sleep(31.0)
        stage.bases.modules[base].clear()
        await asyncio.sleep(600.0)
        assert len(stage.bases.uninstalls) == 1
        assert "ModuleUninstallFailed" not in stage.reasons()


async def test_a_failing_uninstall_of_an_orphan_is_retried_less_and_less_often() -> None:
    """In the original the failure called itself until the process died of it."""
    async with Stage(Api()).running() as stage:
        base = await orphan(stage)
        stage.bases.answer[Verb.UNINSTALL] = FAILURE
        await asyncio.sleep(1200.0)
        assert 4 <= len(stage.bases.uninstalls) <= 10
        stage.put_pod("another", module="biz2")
        await asyncio.sleep(2.0)
        assert stage.ready("pod", "another") == "True"
        del stage.bases.answer[Verb.UNINSTALL]
        await asyncio.sleep(360.0)
        assert KEY not in stage.bases.modules[base]


@pytest.mark.parametrize(
    ("orphans", "left"),
    [
        (OrphanPolicy.OWN, {OTHER: ModuleState.ACTIVATED}),
        (OrphanPolicy.ALL, {}),
        (OrphanPolicy.NONE, {KEY: ModuleState.ACTIVATED, OTHER: ModuleState.ACTIVATED}),
    ],
)
async def test_the_policy_decides_which_modules_without_a_pod_are_removed(
    orphans: OrphanPolicy, left: dict[ModuleKey, ModuleState]
) -> None:
    async with Stage(Api(), policy(orphans)).running() as stage:
        base = await orphan(stage)
        stage.bases.modules[base][OTHER] = ModuleState.ACTIVATED
        await asyncio.sleep(25.0)
        assert stage.bases.uninstalls == []
        await asyncio.sleep(60.0)
        assert stage.bases.modules[base] == left


async def test_failed_and_partial_lists_remove_and_install_nothing() -> None:
    async with Stage(Api(), policy(OrphanPolicy.ALL)).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.modules[base][OTHER] = ModuleState.ACTIVATED
        stage.bases.watches.clear()
        for _ in range(50):
            stage.router.report(stage.link, base, ModuleList((), complete=False, unchanged=False, epoch=99))
            stage.router.report(stage.link, base, PollFailed("cut"))
            await asyncio.sleep(12.0)
        assert stage.bases.uninstalls == []
        assert [key for _, key in stage.bases.installs] == [KEY]


async def test_a_module_from_a_baseline_whose_pod_comes_later_is_kept() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.bases.modules[base][KEY] = ModuleState.ACTIVATED
        await asyncio.sleep(120.0)
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        assert stage.ready("pod", "p") == "True"
        assert stage.bases.installs == stage.bases.uninstalls == []
        # From now on it is ours, and goes with its Pod.
        stage.delete_pod("p")
        await asyncio.sleep(5.0)
        assert stage.bases.modules[base] == {}


@pytest.mark.parametrize("known", [True, False])
async def test_a_baseline_module_is_removed_when_no_pod_comes_for_it(known: bool) -> None:
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        base = BaseId("b1")
        if known:
            stage.bases.add("b1")
        await asyncio.sleep(5.0)
        query = BaselineQuery("q", "shop", "1.0.0", "default", HOME)
        stage.router.report(stage.link, BaseId("b1"), query)
        stage.bases.add("b1")
        stage.bases.modules[base][KEY] = ModuleState.ACTIVATED
        await asyncio.sleep(BASELINE_WAIT - 5.0)
        assert stage.bases.uninstalls == []
        await asyncio.sleep(30.0)
        assert stage.bases.modules[base] == {}
        assert stage.bases.uninstalls == [(base, KEY)]


async def test_a_module_that_a_starting_base_installs_by_itself_is_not_ordered() -> None:
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        query = BaselineQuery("q", "shop", "1.0.0", "default", HOME)
        stage.router.report(stage.link, BaseId("b1"), query)
        stage.put_pod("p")
        stage.put_pod("other", module="biz2")
        await asyncio.sleep(20.0)
        assert stage.bases.installs == [(base, OTHER)]
        stage.bases.modules[base][KEY] = ModuleState.ACTIVATED
        batch = BatchInstalled(Reply(ReplyCode.SUCCESS), ())
        stage.router.report(stage.link, BaseId("b1"), batch)
        await asyncio.sleep(5.0)
        assert stage.ready("pod", "p") == "True"
        assert stage.bases.installs == [(base, OTHER)]


async def test_a_baseline_that_fails_before_the_base_has_an_actor_delays_nothing() -> None:
    """The answer over MQTT and the first heartbeat take different ways, and the term begins later still."""
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        stage.put_node("b1")
        await asyncio.sleep(5.0)
        base = BaseId("b1")
        stage.router.report(stage.link, base, BaselineQuery("q", "shop", "1.0.0", "default", Way(TunnelKind.MQTT)))
        failed = Reply(ReplyCode.FAILED, message="no route")
        stage.router.report(stage.link, base, BatchInstalled(failed, (("https://repo.example/biz1.jar", failed),)))
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(10.0)
        assert stage.bases.installs == [(base, KEY)]
        assert stage.ready("pod", "p") == "True"
        assert stage.reasons().count("BaselineInstallFailed") == 1


async def test_what_a_base_was_sent_before_it_started_is_given_again_soon() -> None:
    """Over MQTT nothing says that the base of that time was gone already."""
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.INSTALL] = None
        stage.put_pod("p")
        await asyncio.sleep(2.0)
        assert stage.bases.installs == [(base, KEY)]
        del stage.bases.answer[Verb.INSTALL]
        stage.router.report(stage.link, base, BaselineQuery("q", "shop", "1.0.0", "default", HOME))
        stage.router.report(stage.link, base, BatchInstalled(Reply(ReplyCode.SUCCESS), ()))
        await asyncio.sleep(12.0)
        assert stage.bases.installs == [(base, KEY)] * 2
        assert stage.ready("pod", "p") == "True"


async def test_a_result_without_a_baseline_of_ours_is_refused() -> None:
    labels = {"reason": "unknown-base"}
    before = REGISTRY.get_sample_value("koupleless_refused_reports_total", labels) or 0.0
    async with Stage(Api()).running() as stage:
        stage.router.report(stage.link, BaseId("b1"), BatchInstalled(Reply(ReplyCode.SUCCESS), ()))
        assert REGISTRY.get_sample_value("koupleless_refused_reports_total", labels) == before + 1


async def test_a_baseline_without_a_result_is_ordered_after_a_while() -> None:
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.router.report(stage.link, BaseId("b1"), BaselineQuery("q", "shop", "1.0.0", "default", HOME))
        stage.put_pod("p")
        await asyncio.sleep(BASELINE_HOLD + 5.0)
        assert stage.bases.installs == [(base, KEY)]
        assert stage.ready("pod", "p") == "True"


async def test_a_baseline_module_stays_when_its_pod_comes_late() -> None:
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        query = BaselineQuery("q", "shop", "1.0.0", "default", HOME)
        stage.router.report(stage.link, BaseId("b1"), query)
        stage.bases.modules[base][KEY] = ModuleState.ACTIVATED
        await asyncio.sleep(BASELINE_WAIT - 5.0)
        stage.put_pod("p")
        await asyncio.sleep(200.0)
        assert stage.ready("pod", "p") == "True"
        assert stage.bases.installs == stage.bases.uninstalls == []


async def test_a_pod_that_was_bound_while_its_base_was_silent_is_installed_when_it_answers() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.bases.add("b2")
        await asyncio.sleep(5.0)
        stage.bases.silence(base)
        await asyncio.sleep(35.0)
        assert stage.ready("node", "b1") == "False"
        stage.put_pod("p")
        await asyncio.sleep(3.0)
        assert stage.bases.installs == []
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        assert stage.ready("pod", "p") == "True"


async def test_a_pod_is_removed_as_soon_as_its_module_is_gone() -> None:
    """Not after its grace period."""
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.delete_pod("p")
        await asyncio.sleep(1.0)
        assert stage.pod("p") is None


async def test_an_install_that_cannot_be_sent_holds_no_deletion_up() -> None:
    """In the original the queue of a Pod stood still for up to 16 minutes."""
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.INSTALL] = Refused(Refusal.UNREACHABLE, "connection refused")
        stage.put_pod("p")
        await asyncio.sleep(60.0)
        tries = len(stage.bases.installs)
        assert 4 <= tries <= 10
        stage.delete_pod("p")
        await asyncio.sleep(2.0)
        assert stage.pod("p") is None


async def test_failed_installs_are_retried_at_once_after_a_restart_in_place() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("good", module="biz2")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.INSTALL] = FAILURE
        stage.put_pod("p")
        await asyncio.sleep(400.0)
        assert stage.ready("pod", "p") == "False"
        del stage.bases.answer[Verb.INSTALL]
        stage.bases.modules[base].clear()
        stage.bases.poll(base)
        await asyncio.sleep(2.0)
        assert stage.bases.modules[base] == {KEY: ModuleState.ACTIVATED, OTHER: ModuleState.ACTIVATED}


async def test_an_uninstall_reported_as_failed_although_it_succeeded_ends_the_pod() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.UNINSTALL] = FAILURE
        stage.bases.modules[base].clear()
        stage.delete_pod("p")
        await asyncio.sleep(5.0)
        assert stage.pod("p") is None
        assert len(stage.bases.uninstalls) == 1


async def test_an_uninstall_of_unknown_outcome_is_resolved_by_the_list() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.UNINSTALL] = OutcomeUnknown("the connection was cut")
        stage.delete_pod("p")
        await asyncio.sleep(0.03)
        stage.bases.modules[base].clear()
        await asyncio.sleep(2.0)
        assert stage.pod("p") is None
        assert len(stage.bases.uninstalls) == 1


async def test_a_pod_removed_without_its_module_is_counted_and_the_module_goes_later() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        before = REGISTRY.get_sample_value("koupleless_uninstall_timeouts_total") or 0.0
        stage.bases.answer[Verb.UNINSTALL] = FAILURE
        stage.delete_pod("p")
        await asyncio.sleep(310.0)
        assert stage.pod("p") is None
        assert stage.reasons().count("ModuleUninstallTimeout") == 1
        assert REGISTRY.get_sample_value("koupleless_uninstall_timeouts_total") == before + 1
        del stage.bases.answer[Verb.UNINSTALL]
        await asyncio.sleep(400.0)
        assert stage.bases.modules[base] == {}


async def test_the_module_that_a_jar_really_held_is_removed_with_its_pod() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        installed = Module(ModuleKey("biz1", "9"), ModuleState.ACTIVATED)
        stage.bases.answer[Verb.INSTALL] = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(installed,))
        stage.bases.modules[base][installed.key] = ModuleState.ACTIVATED
        stage.put_pod("p")
        await asyncio.sleep(60.0)
        pod = stage.pod("p")
        assert pod is not None
        waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
        assert waiting["reason"] == "IdentityMismatch"
        assert "biz1:9" in waiting["message"]
        assert len(stage.bases.installs) == 1
        stage.delete_pod("p")
        await asyncio.sleep(60.0)
        assert stage.pod("p") is None
        assert stage.bases.modules[base] == {}


async def test_the_old_version_turns_not_ready_before_the_new_one_turns_ready() -> None:
    """So that a Deployment removes the right Pod."""
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("old")
        await asyncio.sleep(5.0)
        stage.api.calls.clear()
        stage.put_pod("newest", version="2")
        await asyncio.sleep(5.0)
        statuses = [
            (call.subject, next(c["status"] for c in call.body["status"]["conditions"] if c["type"] == "Ready"))
            for call in stage.api.made("patch")
            if call.resource.kind == "Pod" and call.body is not None
        ]
        assert statuses == [("default/old", "False"), ("default/newest", "True")]
