"""What is recorded is without secrets wherever it goes: log, Events, tools, hooks."""

import asyncio

import pytest

from controlplane.app.events import ATTEMPTS, Happening
from controlplane.app.metrics import EVENTS_DROPPED
from controlplane.app.ports import Transient
from controlplane.cluster.api import EVENTS
from controlplane.domain.objects import ModuleDeployment
from controlplane.domain.remarks import Remark
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

URL = "https://deploy:pass-word@repo.example/biz1.jar?Signature=5ecret&v=1"
REMARK = Remark(True, "Failed", "a module failed")
SHOWN = "https://***@repo.example/biz1.jar?Signature=***&v=1"


@pytest.mark.parametrize(
    ("failures", "written"), [(1, 1), (ATTEMPTS - 1, 1), (ATTEMPTS, 0)], ids=["once", "for a minute", "for long"]
)
async def test_an_event_that_the_cluster_turns_away_is_written_again_for_a_while(failures: int, written: int) -> None:
    api = Api()
    async with Stage(api).running() as stage:
        await asyncio.sleep(5.0)
        api.fail("create", *[Transient("too many requests")] * failures)
        dropped = EVENTS_DROPPED._value.get()
        stage.recorder.node(None, "vnode.b1.dev", REMARK)
        await asyncio.sleep(200.0)
        events = (await api.list(EVENTS)).items
        assert [event["message"] for event in events if event["reason"] == "Failed"] == ["a module failed"] * written
        assert EVENTS_DROPPED._value.get() - dropped == 1 - written


async def test_secrets_of_urls_leave_it_masked(capsys: pytest.CaptureFixture[str]) -> None:
    happenings: list[Happening] = []
    async with Stage(Api()).running() as stage:
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        pod = stage.cluster.pods.get("default/p")
        assert pod is not None
        recorder, remark = stage.recorder, Remark(True, "Failed", f"cannot fetch {URL}")
        recorder.subscribe(happenings.append)
        recorder.pod(pod, remark)
        recorder.node(None, "vnode.b1.dev", remark)
        recorder.module("vnode.b1.dev", URL, remark)
        recorder.replica(remark)
        recorder.deployment(ModuleDeployment("default", "d", "u", "1"), remark)
        await asyncio.sleep(5.0)
        made = [call.body or {} for call in stage.api.made("create") if call.resource.kind == "Event"]
        events = [event for event in made if event["reason"] == "Failed"]
        recent = recorder.recent()
    assert [event["involvedObject"]["kind"] for event in events] == ["Pod", "Node", "Lease", "Deployment"]
    assert {event["message"] for event in events} == {f"cannot fetch {SHOWN}"}
    assert [one.remark.message.endswith(f"cannot fetch {SHOWN}") for one in happenings] == [True] * 5
    assert happenings[2].module == SHOWN
    assert happenings == [one for one in recent if one.remark.reason == "Failed"]
    log = "".join(capsys.readouterr())
    assert SHOWN in log
    assert not any(secret in log for secret in ("pass-word", "5ecret"))
