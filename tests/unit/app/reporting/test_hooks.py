"""Events of a base and its modules have what report hooks need."""

import asyncio

import pytest

from controlplane.app.events import Happening
from controlplane.app.ports import Transient
from controlplane.cluster.api import LEASES, PODS
from controlplane.domain.facts import TIMEOUTS, OutcomeUnknown, Reply, ReplyCode, Verb
from tests.fakes.apiserver import Call
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime


def event(stage: Stage, reason: str) -> Happening:
    (happening,) = [h for h in stage.recorder.recent() if h.remark.reason == reason]
    return happening


async def test_events_of_a_pod_have_durations_labels_and_trace() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p", metadata={"annotations": {"trace.koupleless.io/id": "t-1"}})
        await asyncio.sleep(20.0)
        installed = event(stage, "ModuleInstalled")
        assert (installed.module, installed.pod, installed.trace_id) == ("biz1:1", "default/p", "t-1")
        assert installed.labels == {"virtual-kubelet.koupleless.io/component": "module"}
        assert installed.remark.seconds == pytest.approx(0.05, abs=0.02)
        stage.delete_pod("p")
        await asyncio.sleep(40.0)
        removed = event(stage, "PodRemoved")
        assert (removed.remark.type, removed.pod) == ("Normal", "default/p")
        assert 0.05 < removed.remark.seconds < 20
        assert event(stage, "ModuleUninstalled").remark.seconds > 0


async def test_a_pod_changed_in_place_is_reported_when_it_is_ready_again() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(20.0)
        pod = stage.pod("p")
        assert pod is not None
        pod["spec"]["containers"][0] |= {"env": [{"name": "BIZ_VERSION", "value": "2"}]}
        stage.api.put(PODS, pod)
        await asyncio.sleep(60.0)
        assert 0 < event(stage, "PodUpdated").remark.seconds < 40
        assert stage.ready("pod", "p") == "True"


async def test_an_event_for_hooks_alone_is_not_written_to_the_cluster() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(20.0)
        stage.bases.answer[Verb.UNINSTALL] = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: busy")
        stage.delete_pod("p")
        await asyncio.sleep(20.0)
        del stage.bases.answer[Verb.UNINSTALL]
        await asyncio.sleep(60.0)
        assert stage.pod("p") is None
        events = [(call.body or {}).get("reason") for call in stage.api.made("create") if call.resource.kind == "Event"]
        assert {"ModuleUninstallFailed", "ModuleUninstalled"} <= set(events)
        assert "PodRemoved" not in events


async def test_an_unanswered_order_is_reported_after_its_timeout() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.INSTALL] = OutcomeUnknown("the gateway ended")
        stage.put_pod("early")
        await asyncio.sleep(2.0)
        assert "ModuleInstallUnanswered" not in stage.reasons()
        stage.bases.answer[Verb.INSTALL] = None
        await asyncio.sleep(TIMEOUTS[Verb.INSTALL] + 60)
        assert event(stage, "ModuleInstallUnanswered").remark.type == "Warning"


async def test_the_end_of_a_base_is_a_warning_unless_it_deactivates() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.leave(base)
        await asyncio.sleep(5.0)
        assert event(stage, "VNodeRemoved").remark.type == "Normal"
        stage.bases.add("b2")
        await asyncio.sleep(5.0)
        stage.bases.silence(stage.bases.add("b2"))
        await asyncio.sleep(70.0)
        removed = [h for h in stage.recorder.recent() if h.remark.reason == "VNodeRemoved"]
        assert [h.remark.type for h in removed] == ["Normal", "Warning"]


async def test_a_lease_that_somebody_took_is_reported() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        lease = stage.lease()
        assert lease is not None
        lease["spec"] |= {"holderIdentity": "thief", "leaseTransitions": lease["spec"]["leaseTransitions"] + 1}
        stage.api.put(LEASES, lease)
        await asyncio.sleep(15.0)
        lost = event(stage, "LeaseLost")
        assert lost.remark.type == "Warning"
        assert "thief" in lost.remark.message


class WithoutLeases(Api):
    """An API server that refuses all calls on Leases while ``refusing`` is set."""

    refusing = False

    def _called(self, call: Call) -> None:
        if self.refusing and call.resource == LEASES:
            raise Transient("etcd is slow")
        super()._called(call)


async def test_failing_lease_renewals_are_reported_once_for_all_and_so_is_their_end() -> None:
    api = WithoutLeases()
    async with Stage(api).running() as stage:
        for number in range(5):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(5.0)
        api.refusing = True
        await asyncio.sleep(120.0)
        message = event(stage, "LeasesNotRenewed").remark.message
        assert "etcd is slow" in message
        api.refusing = False
        await asyncio.sleep(15.0)
        assert event(stage, "LeasesRenewed").remark.type == "Normal"
