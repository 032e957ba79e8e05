"""Hooks get each report once, at their pace, and again when it fails; nothing waits for a hook."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
from structlog.testing import capture_logs

from controlplane.app.events import Happening
from controlplane.app.metrics import HOOK_QUEUE, HOOK_REPORTS
from controlplane.app.ports import Undelivered
from controlplane.app.reporting import hooks as reporting
from controlplane.app.reporting.hooks import HookQueue, Reporter
from controlplane.domain.remarks import Remark
from controlplane.domain.reports import Allowance, Report
from tests.unit.app.harness import LoopClock

pytestmark = pytest.mark.looptime

WIDE = Allowance(10_000, 60.0)


class FakeHook:
    """Takes reports, or fails as a test sets it."""

    def __init__(self, kind: str = "fake") -> None:
        self.kind = kind
        self.name = kind
        self.taken: list[Report] = []
        self.tried_at: list[float] = []
        self.failures: list[Exception] = []
        self.hanging = False

    async def send(self, report: Report) -> None:
        self.tried_at.append(asyncio.get_running_loop().time())
        if self.hanging:
            await asyncio.get_running_loop().create_future()
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(report)


def happening(reason: str = "ModuleInstallFailed", *, base: str = "b1", message: str = "boom") -> Happening:
    return Happening(
        Remark(True, reason, message, seconds=1.5),
        vnode=f"vnode.{base}.dev",
        module="biz1:1",
        pod="default/p",
        labels={"app": "x"},
        trace_id="t",
    )


@asynccontextmanager
async def reporting_to(hooks: Sequence[FakeHook], pace: Allowance = WIDE) -> AsyncIterator[Reporter]:
    clock = LoopClock()
    outlets = [HookQueue(hook, clock=clock, random=Random(1), pace=pace) for hook in hooks]
    reporter = Reporter(outlets, clock, replica="r0", env="dev")
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        task.cancel()


async def test_a_failure_is_sent_to_every_hook_with_all_that_is_known() -> None:
    one, other = FakeHook(), FakeHook()
    async with reporting_to([one, other]) as reporter:
        reporter.happened(happening())
        await asyncio.sleep(1)
    assert one.taken == other.taken
    assert one.taken[0].fields() == {
        "traceID": "t",
        "scene": "vpod_deploy",
        "event": "ContainerStart",
        "timeUsed": 1500,
        "result": "fail",
        "message": "boom",
        "code": "01002",
        "labels": {"app": "x", "base": "b1", "module": "biz1:1", "pod": "default/p", "replica": "r0"},
    }


async def test_what_is_no_failure_is_not_sent() -> None:
    hook = FakeHook()
    async with reporting_to([hook]) as reporter:
        reporter.happened(Happening(Remark(False, "ModuleInstalled", "done"), vnode="vnode.b1.dev", module="biz1:1"))
        reporter.happened(Happening(Remark(False, "BaseReachable", "answers"), vnode="vnode.b1.dev"))
        await asyncio.sleep(1)
    assert not hook.taken


async def test_the_same_failure_is_sent_once_and_counted_later() -> None:
    hook = FakeHook()
    async with reporting_to([hook]) as reporter:
        for number in range(5):
            reporter.happened(happening(message=f"attempt {number}"))
            await asyncio.sleep(60)
        reporter.happened(happening(base="b2"))
        await asyncio.sleep(1)
        assert [r.message for r in hook.taken] == ["attempt 0", "boom"]
        await asyncio.sleep(600)
        assert [r.message for r in hook.taken] == ["attempt 0", "boom", "attempt 4 (4 times more within 10 minutes)"]
        await asyncio.sleep(3600)
        assert len(hook.taken) == 3
        reporter.happened(happening(message="again"))
        await asyncio.sleep(1)
        assert hook.taken[-1].message == "again"


async def test_memory_is_bounded_and_no_count_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "REMEMBERED", 10)
    hook = FakeHook()
    async with reporting_to([hook]) as reporter:
        reporter.happened(happening(base="first"))
        reporter.happened(happening(base="first"))
        for number in range(100):
            reporter.happened(happening(base=f"b{number}"))
            await asyncio.sleep(0.1)
    assert "boom (once more within 10 minutes)" in [r.message for r in hook.taken]
    assert len(hook.taken) == 102


async def test_a_hook_that_hangs_keeps_neither_the_caller_nor_another_hook_waiting() -> None:
    hanging, failing, sound = FakeHook("hanging"), FakeHook("failing"), FakeHook("sound")
    hanging.hanging = True
    failing.failures = [Undelivered("status 500", again=True)] * 1000
    async with reporting_to([hanging, failing, sound]) as reporter:
        for number in range(10):
            before = asyncio.get_running_loop().time()
            reporter.happened(happening(base=f"b{number}"))
            assert asyncio.get_running_loop().time() == before
        await asyncio.sleep(1)
        assert len(sound.taken) == 10
        assert not hanging.taken
        assert len(hanging.tried_at) == 1


async def test_a_hook_that_comes_back_gets_what_waited() -> None:
    hook = FakeHook()
    hook.failures = [Undelivered("status 500", again=True)] * 3
    async with reporting_to([hook]) as reporter:
        with capture_logs() as logs:
            reporter.happened(happening(base="b1"))
            reporter.happened(happening(base="b2"))
            await asyncio.sleep(60)
    assert [r.labels["base"] for r in hook.taken] == ["b1", "b2"]
    assert [e["event"] for e in logs] == ["hook does not take reports", "hook takes reports again"]
    gaps = [later - earlier for earlier, later in zip(hook.tried_at, hook.tried_at[1:4], strict=False)]
    assert gaps == sorted(gaps)
    assert 2 <= gaps[0] <= 3


async def test_a_report_is_given_up_after_some_attempts_and_the_next_one_is_sent() -> None:
    hook = FakeHook("mule")
    hook.failures = [Undelivered("status 500", again=True)] * reporting.ATTEMPTS
    before = HOOK_REPORTS.labels("mule", "failed")._value.get()
    async with reporting_to([hook]) as reporter:
        reporter.happened(happening(base="b1"))
        reporter.happened(happening(base="b2"))
        await asyncio.sleep(600)
    assert [r.labels["base"] for r in hook.taken] == ["b2"]
    assert HOOK_REPORTS.labels("mule", "failed")._value.get() == before + 1
    assert HOOK_REPORTS.labels("mule", "sent")._value.get() == 1
    assert max(b - a for a, b in zip(hook.tried_at, hook.tried_at[1:], strict=False)) <= 90


async def test_a_permanent_failure_is_not_tried_again() -> None:
    hook = FakeHook()
    hook.failures = [Undelivered("redirects", again=False), ValueError("a defect")]
    async with reporting_to([hook]) as reporter:
        for number in range(3):
            reporter.happened(happening(base=f"b{number}"))
        await asyncio.sleep(1)
    assert len(hook.tried_at) == 3
    assert [r.labels["base"] for r in hook.taken] == ["b2"]


async def test_a_hook_may_set_the_next_attempt() -> None:
    hook = FakeHook()
    hook.failures = [Undelivered("too fast", again=True, retry_after=300.0)]
    async with reporting_to([hook]) as reporter:
        reporter.happened(happening())
        await asyncio.sleep(299)
        assert not hook.taken
        await asyncio.sleep(10)
    assert len(hook.taken) == 1


async def test_the_pace_holds_even_while_a_hook_fails() -> None:
    hook = FakeHook()
    hook.failures = [Undelivered("status 500", again=True)] * 30
    async with reporting_to([hook], Allowance(20, 60.0)) as reporter:
        for number in range(200):
            reporter.happened(happening(f"Reason{number}", base=f"b{number}"))
        await asyncio.sleep(1800)
    assert not hook.failures
    assert hook.taken
    for start in hook.tried_at:
        assert len([at for at in hook.tried_at if start <= at < start + 60.0]) <= 20


async def test_a_long_queue_is_sent_kind_by_kind_and_nothing_is_lost() -> None:
    hook = FakeHook()
    async with reporting_to([hook], Allowance(20, 60.0)) as reporter:
        for number in range(400):
            reporter.happened(happening(base=f"b{number}"))
        for number in range(3):
            reporter.happened(happening("BaseUnreachable", base=f"b{number}"))
        await asyncio.sleep(600)
    assert len(hook.taken) == 4
    assert hook.taken[0].message.startswith("boom (and 399 more like it: default/p biz1:1 b1, ")


async def test_a_full_queue_leaves_out_the_oldest_counts_and_says_so() -> None:
    hook = FakeHook("full")
    hook.hanging = True
    async with reporting_to([hook]) as reporter:
        reporter.happened(happening(base="stuck"))
        await asyncio.sleep(1)
        for number in range(reporting.WAITING + 7):
            reporter.happened(happening(f"Reason{number}"))
        assert HOOK_QUEUE.labels("full")._value.get() == reporting.WAITING
        assert HOOK_REPORTS.labels("full", "dropped")._value.get() == 7
        hook.hanging = False
        await asyncio.sleep(600)
        assert HOOK_QUEUE.labels("full")._value.get() == 0
    assert hook.taken[0].labels["base"] == "stuck"
    assert hook.taken[1].event == "Reason7"
    assert "7 earlier reports were left out" in hook.taken[1].message
    assert "left out" not in hook.taken[2].message


async def test_replicas_of_two_deployments_are_reported_apart() -> None:
    hook = FakeHook()
    async with reporting_to([hook]) as reporter:
        for name in ("default/one", "default/two"):
            for reason in ("PeerReplicasNotChanged", "PeerReplicasChanged"):
                reporter.happened(Happening(Remark(True, reason, "no"), deployment=name))
        await asyncio.sleep(1)
    assert [(r.event, r.code, r.labels["deployment"]) for r in hook.taken] == [
        ("PeerDeploymentReplicaModify", "00003", "default/one"),
        ("PeerDeploymentReplicaModify", "00009", "default/one"),
        ("PeerDeploymentReplicaModify", "00003", "default/two"),
        ("PeerDeploymentReplicaModify", "00009", "default/two"),
    ]


async def test_no_hook_gets_a_secret_of_a_report() -> None:
    hook, secret = FakeHook(), "https://u:pass-word@h/x?Signature=5ecret"
    texts = dict.fromkeys(("scene", "event", "result", "message", "code", "trace_id"), secret)
    async with reporting_to([hook]) as reporter:
        reporter.report(Report(key="k", labels={secret: secret}, **texts))  # type: ignore[arg-type]
        await asyncio.sleep(1.0)
    shown = "https://***@h/x?Signature=***"
    (taken,) = hook.taken
    assert taken.labels == {shown: shown}
    assert {taken.scene, taken.event, taken.result, taken.message, taken.code, taken.trace_id} == {shown}
