"""Pods become modules and are removed with them, also with failures, lost gateways and restarts."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from controlplane.app.base.pods import Pods
from controlplane.app.ports import Rejected
from controlplane.cluster.api import PODS
from controlplane.domain.base.replies import Effect
from controlplane.domain.facts import ClientCode, ModuleState, Reply, ReplyCode, Verb
from controlplane.domain.identity import BaseId, ModuleKey
from controlplane.domain.objects import Pod
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

KEY = ModuleKey("biz1", "1")


async def test_a_pod_becomes_a_module_with_one_write() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.api.calls.clear()
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        assert stage.bases.modules[base] == {KEY: ModuleState.ACTIVATED}
        assert stage.ready("pod", "p") == "True"
        pod = stage.pod("p")
        assert pod is not None
        assert pod["status"]["phase"] == "Running"
        assert pod["status"]["podIP"] == "10.0.0.7"
        assert "running" in pod["status"]["containerStatuses"][0]["state"]
        writes = [c for c in stage.api.calls if c.verb in ("patch", "create") and c.resource.kind in ("Pod", "Node")]
        assert len(writes) == 1
        assert stage.api.made("create") == []
        await asyncio.sleep(12.0)
        lease = stage.lease()
        assert lease is not None
        assert lease["metadata"]["annotations"]["module.koupleless.io/installed"] == '{"biz1:1":"06c974b25a90"}'
        renewals = [c.body for c in stage.api.made("patch") if c.resource.kind == "Lease" and "vnode" in c.subject]
        assert len(renewals) <= 3, "the record comes along with a renewal"


async def test_the_last_operations_on_a_module_are_kept() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.bases.answer[Verb.INSTALL] = Reply(ReplyCode.INTERNAL_ERROR, message="no such jar")
        stage.put_pod("p")
        await asyncio.sleep(8.0)
        del stage.bases.answer[Verb.INSTALL]
        await asyncio.sleep(30.0)
        base = stage.roster.get(BaseId("b1"))
        assert base is not None
        assert [(o.ended.verb, o.ended.meaning.effect) for o in base.history] == [
            (Verb.INSTALL, Effect.FAILED),
            (Verb.INSTALL, Effect.DONE),
        ]
        assert base.history[0].ended.meaning.message == "no such jar"
        assert base.history[0].ended.seconds == pytest.approx(0.05)


async def test_a_deleted_pod_stays_until_its_module_is_gone() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.UNINSTALL] = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: busy")
        stage.delete_pod("p")
        await asyncio.sleep(30.0)
        assert stage.pod("p") is not None
        assert "ModuleUninstallFailed" in stage.reasons()
        del stage.bases.answer[Verb.UNINSTALL]
        await asyncio.sleep(60.0)
        assert stage.pod("p") is None
        assert stage.bases.modules[base] == {}
        assert "ModuleUninstalled" in stage.reasons()


async def test_a_superseded_pod_stays_so_until_it_is_gone() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.put_pod("newer", version="2")
        await asyncio.sleep(5.0)
        assert (stage.ready("pod", "p"), stage.ready("pod", "newer")) == ("False", "True")
        stage.api.calls.clear()
        stage.delete_pod("p")
        await asyncio.sleep(5.0)
        assert stage.pod("p") is None
        assert stage.bases.modules[base] == {ModuleKey("biz1", "2"): ModuleState.ACTIVATED}
        writes = [(c.verb, c.resource.kind) for c in stage.api.calls if c.resource.kind in ("Pod", "Node")]
        assert writes == [("delete", "Pod")]


async def test_pods_that_finalizers_hold_do_not_keep_a_base_busy() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        for number in range(20):
            stage.put_pod(f"p{number}", module=f"biz{number}", metadata={"finalizers": ["example.com/held"]})
        await asyncio.sleep(10.0)
        for number in range(20):
            stage.delete_pod(f"p{number}")
        await asyncio.sleep(10.0)
        assert stage.bases.modules[base] == {}
        assert len(stage.api.made("delete")) == 20
        assert {stage.ready("pod", f"p{number}") for number in range(20)} == {"False"}, "their modules are gone"
        stage.api.calls.clear()
        stage.put_pod("new")
        await asyncio.sleep(1.0)
        assert stage.ready("pod", "new") == "True"
        await asyncio.sleep(300.0)
        assert stage.api.made("delete") == [], "what a finalizer holds is not removed again"


async def test_a_pod_whose_removal_is_refused_shows_that_its_module_is_gone() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(10.0)
        stage.api.fail("delete", *[Rejected("denied by an admission webhook")] * 3)
        stage.delete_pod("p")
        await asyncio.sleep(60.0)
        assert stage.ready("pod", "p") == "False"
        await asyncio.sleep(120.0)
        assert stage.pod("p") is None


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_final_phase_that_somebody_else_wrote_stays(phase: str) -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        pod = stage.pod("p")
        assert pod is not None
        pod["status"] |= {"phase": phase, "reason": "DeadlineExceeded"}
        stage.api.calls.clear()
        stage.api.put(PODS, pod)
        await asyncio.sleep(60.0)
        ended = stage.pod("p")
        assert ended is not None
        assert (ended["status"]["phase"], ended["status"]["reason"]) == (phase, "DeadlineExceeded")
        assert [c for c in stage.api.calls if c.verb == "patch" and c.resource.kind == "Pod"] == []
        assert stage.bases.modules[base] == {}, "as with any Pod that has ended, its module is uninstalled"


async def test_orders_do_not_wait_for_an_api_server_that_takes_writes_slowly() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        before = REGISTRY.get_sample_value("koupleless_pod_bound_to_order_seconds_sum") or 0.0
        stage.api.delay["patch"] = 3.0
        stage.put_pod("p")
        await asyncio.sleep(0.5)
        for number in range(2, 6):
            stage.put_pod(f"later-{number}", module=f"biz{number}")
            await asyncio.sleep(0.1)
        assert len(stage.bases.installs) == 5
        after = REGISTRY.get_sample_value("koupleless_pod_bound_to_order_seconds_sum") or 0.0
        assert after - before < 0.1
        await asyncio.sleep(10.0)
        # What became due meanwhile was written by one pass.
        assert [stage.ready("pod", name) for name in ("p", "later-2", "later-5")] == ["True"] * 3
        statuses = [call for call in stage.api.made("patch") if call.resource == PODS]
        assert len(statuses) == 5


async def test_of_what_changes_while_writes_are_under_way_the_newest_is_written() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.api.calls.clear()
        stage.api.delay["patch"] = 3.0
        key = ModuleKey("biz1", "1")
        for state in (ModuleState.BROKEN, ModuleState.ACTIVATED, ModuleState.BROKEN, ModuleState.ACTIVATED):
            stage.bases.modules[base][key] = state
            stage.bases.poll(base)
            await asyncio.sleep(0.2)
        await asyncio.sleep(10.0)
        assert stage.ready("pod", "p") == "True"
        written = [call.body for call in stage.api.made("patch") if call.resource == PODS and call.body is not None]
        shown = [body["status"]["conditions"] for body in written]
        ready = [{each["type"]: each["status"] for each in conditions}.get("Ready") for conditions in shown]
        assert ready == ["False", "True"]


async def test_a_pod_whose_module_stays_goes_after_the_timeout_with_an_event() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.UNINSTALL] = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: no")
        stage.delete_pod("p")
        await asyncio.sleep(295.0)
        assert stage.pod("p") is not None
        await asyncio.sleep(10.0)
        assert stage.pod("p") is None
        assert "ModuleUninstallTimeout" in stage.reasons()


async def test_a_failed_install_shows_reason_and_message_and_is_tried_again() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        failure = "Internal Error: java.lang.IllegalStateException: port in use"
        stage.bases.answer[Verb.INSTALL] = Reply(ReplyCode.INTERNAL_ERROR, message=failure)
        stage.put_pod("p")
        await asyncio.sleep(25.0)
        pod = stage.pod("p")
        assert pod is not None
        status = pod["status"]["containerStatuses"][0]
        assert status["state"]["waiting"] == {"reason": "InstallFailed", "message": failure}
        assert status["restartCount"] == 2
        assert stage.ready("pod", "p") == "False"
        assert stage.reasons().count("ModuleInstallFailed") == 2
        del stage.bases.answer[Verb.INSTALL]
        await asyncio.sleep(60.0)
        assert stage.ready("pod", "p") == "True"
        assert len(stage.bases.installs) == 3


async def test_a_module_that_is_there_already_is_not_installed_again() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.bases.modules[base][KEY] = ModuleState.ACTIVATED
        await asyncio.sleep(15.0)
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        assert stage.ready("pod", "p") == "True"
        assert stage.bases.installs == []


async def test_a_module_that_vanished_is_installed_again() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.modules[base].clear()
        await asyncio.sleep(20.0)
        assert stage.bases.modules[base] == {KEY: ModuleState.ACTIVATED}
        assert stage.ready("pod", "p") == "True"


async def test_a_restarted_control_plane_touches_neither_node_nor_module() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        modules = stage.bases.modules
    api.calls.clear()
    async with Stage(api).running() as stage:
        stage.bases.modules = modules
        stage.bases.add("b1")
        await asyncio.sleep(120.0)
        assert stage.bases.installs == []
        assert stage.bases.uninstalls == []
        assert api.made("delete") == []
        assert [c for c in api.made("patch") if c.resource.kind == "Pod"] == []
        assert stage.ready("pod", "p") == "True"
        lease = stage.lease()
        assert lease is not None
        assert stage.link.watches[0].fence == lease["spec"]["leaseTransitions"]


async def test_a_restarted_control_plane_removes_a_base_that_died_meanwhile() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
    async with Stage(api).running() as stage:
        await asyncio.sleep(50.0)
        assert stage.node() is not None
        await asyncio.sleep(15.0)
        assert stage.node() is None


async def test_an_order_through_a_lost_gateway_is_resolved_by_the_list() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.put_pod("p")
        await asyncio.sleep(0.02)
        assert len(stage.link.orders) == 1
        stage.disconnect()
        await asyncio.sleep(1.0)
        assert stage.bases.modules[base] == {KEY: ModuleState.ACTIVATED}
        stage.connect()
        stage.link.instance = "2"
        await asyncio.sleep(30.0)
        assert stage.ready("pod", "p") == "True"
        assert len(stage.bases.installs) == 1


async def test_a_hanging_install_does_not_hold_up_other_modules_or_the_deletion_of_another_pod() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("other", module="biz2")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.INSTALL] = None
        stage.put_pod("hanging")
        await asyncio.sleep(1.0)
        stage.delete_pod("other")
        await asyncio.sleep(2.0)
        assert stage.pod("other") is None
        assert stage.bases.modules[base] == {}


async def test_a_status_that_somebody_else_changed_is_put_right() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        pod = stage.pod("p")
        assert pod is not None
        for condition in pod["status"]["conditions"]:
            condition["status"] = "False"
        stage.api.put(PODS, pod)
        await asyncio.sleep(1.0)
        assert stage.ready("pod", "p") == "True"


async def test_a_pod_without_version_shows_what_is_missing_and_delays_no_other() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("bad", version="")
        stage.put_pod("good", module="biz2")
        await asyncio.sleep(5.0)
        pod = stage.pod("bad")
        assert pod is not None
        assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "InvalidModule"
        assert stage.ready("pod", "good") == "True"
        stage.delete_pod("bad")
        await asyncio.sleep(1.0)
        assert stage.pod("bad") is None


async def test_a_repeated_install_is_success_once_the_list_shows_it() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.INSTALL] = Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ, "installed")
        stage.put_pod("p")
        await asyncio.sleep(0.2)
        stage.bases.modules[base][KEY] = ModuleState.ACTIVATED
        await asyncio.sleep(20.0)
        assert stage.ready("pod", "p") == "True"
        assert 1 <= len(stage.bases.installs) <= 3
        assert "ModuleInstallFailed" not in stage.reasons()


async def test_an_actor_that_fails_is_restarted_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Pods.look
    broken = True

    def look(self: Pods, now: float, touched_at: float | None = None) -> tuple[Pod, ...]:
        if broken and self.vnode == "vnode.b1.dev":
            raise ZeroDivisionError("a bug that the data of one base triggers")
        return real(self, now, touched_at)

    monkeypatch.setattr(Pods, "look", look)
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.bases.add("b2")
        stage.put_pod("p", base="b2")
        await asyncio.sleep(10.0)
        assert stage.ready("pod", "p") == "True"
        assert stage.node("b1") is None
        broken = False
        await asyncio.sleep(30.0)
        assert stage.ready("node", "b1") == "True"
