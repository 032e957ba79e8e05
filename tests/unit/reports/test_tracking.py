"""The tracker writes lines and posts, and goes on when neither can be made."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
from structlog.testing import capture_logs

from controlplane.app.events import Happening
from controlplane.app.metrics import TRACKED
from controlplane.app.reporting import tracking
from controlplane.app.reporting.hooks import HookQueue
from controlplane.app.reporting.tracking import Tracker
from controlplane.domain.remarks import Remark
from tests.unit.app.harness import LoopClock
from tests.unit.reports.test_reporting import FakeHook, happening

pytestmark = pytest.mark.looptime

INSTALLED = Happening(
    Remark(False, "ModuleInstalled", "done", seconds=0.5),
    wall=1_790_000_000.25,
    vnode="vnode.b1.dev",
    module="biz1:1",
    pod="default/p",
    labels={"app": "x"},
)


class FakeFile:
    """A file in memory."""

    def __init__(self) -> None:
        self.text = ""
        self.error: Exception | None = None

    async def append(self, text: str) -> None:
        if self.error is not None:
            raise self.error
        self.text += text


@asynccontextmanager
async def tracking_to(
    file: FakeFile, links: Sequence[FakeHook] = (), *, everything: bool = False
) -> AsyncIterator[Tracker]:
    clock = LoopClock()
    outlets = [HookQueue(link, clock=clock, random=Random(1)) for link in links]
    tracker = Tracker(file, outlets, replica="r0", env="dev", everything=everything)
    task = asyncio.create_task(tracker.run())
    try:
        yield tracker
    finally:
        task.cancel()


async def test_success_and_failure_are_lines_and_the_failure_is_posted() -> None:
    file, link = FakeFile(), FakeHook("link")
    async with tracking_to(file, [link]) as tracker:
        tracker.happened(INSTALLED)
        tracker.happened(happening())
        tracker.happened(Happening(Remark(False, "VNodeCreated", "Node created"), vnode="vnode.b1.dev"))
        await asyncio.sleep(1)
    first, second = file.text.splitlines()
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.250\], \[\], \[vpod_deploy\], \[ContainerStart\], \[500\], \[success\], "
        r'\[00000\], \[\], \[\{"app":"x","base":"b1","module":"biz1:1","pod":"default/p","replica":"r0"\}\]',
        first,
    )
    assert "[t], [vpod_deploy], [ContainerStart], [1500], [fail], [01002], [boom]" in second
    assert [report.result for report in link.taken] == ["fail"]


async def test_level_debug_posts_successes_too() -> None:
    link = FakeHook("link")
    async with tracking_to(FakeFile(), [link], everything=True) as tracker:
        tracker.happened(INSTALLED)
        await asyncio.sleep(1)
    assert [report.result for report in link.taken] == ["success"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError()])
async def test_a_full_or_hanging_disk_is_counted_and_logged_once_and_the_links_go_on(error: Exception) -> None:
    file, link = FakeFile(), FakeHook("link")
    file.error = error
    before = TRACKED.labels("failed")._value.get()
    async with tracking_to(file, [link]) as tracker:
        with capture_logs() as logs:
            for number in range(5):
                tracker.happened(happening(base=f"b{number}"))
                await asyncio.sleep(1)
            file.error = None
            tracker.happened(INSTALLED)
            await asyncio.sleep(1)
    assert TRACKED.labels("failed")._value.get() == before + 5
    assert [e["log_level"] for e in logs] == ["warning", "info"]
    assert len(link.taken) == 5
    assert file.text.count("\n") == 1


async def test_lines_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "WAITING", 10)
    file = FakeFile()
    before = TRACKED.labels("dropped")._value.get()
    async with tracking_to(file) as tracker:
        for _ in range(25):
            tracker.happened(INSTALLED)
        await asyncio.sleep(1)
    assert file.text.count("\n") == 10
    assert TRACKED.labels("dropped")._value.get() == before + 15
