"""Hooks over real sockets: each working hook gets each report once, whatever the others do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from aiohttp import ClientTimeout
from structlog.testing import capture_logs

from controlplane.app.clock import SystemClock
from controlplane.app.events import Happening
from controlplane.app.ports import Undelivered
from controlplane.app.reporting import hooks as reporting
from controlplane.app.reporting.hooks import HookQueue, Reporter
from controlplane.domain.backoff import Backoff
from controlplane.domain.remarks import Remark
from controlplane.domain.reports import Report
from controlplane.reports import hooks, posting
from controlplane.reports.apprises import Apprise
from controlplane.reports.posting import DingTalk, Poster
from tests.integration.reports.receiver import SECRET, Receiver

REPORT = Report("k", "vpod_deploy", "ContainerStart", "fail", "boom", "01002", {"base": "b1"}, "t")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().running() as receiver:
        yield receiver


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    async with Poster() as poster:
        yield poster


@asynccontextmanager
async def reporter_to(text: str, poster: Poster) -> AsyncIterator[Reporter]:
    clock = SystemClock()
    outlets = [HookQueue(hook, clock=clock, random=Random(1)) for hook in hooks.parse(text, poster).usable]
    reporter = Reporter(outlets, clock, replica="r0", env="dev")
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        task.cancel()


def failure(number: int) -> Happening:
    return Happening(
        Remark(True, "ModuleInstallFailed", f"boom {number}"),
        vnode=f"vnode.b{number}.dev",
        module="biz1:1",
        pod=f"default/p{number}",
    )


async def seen(look: Callable[[], bool], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not look():  # noqa: ASYNC110 - the receiver has no event for it
            await asyncio.sleep(0.02)


async def test_each_working_hook_gets_each_report_once_whatever_others_do(
    receiver: Receiver, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "RETRY", Backoff(first=0.05, longest=0.2))
    receiver.robots["hanging"].behaviour = "hang"
    receiver.robots["broken"].behaviour = "500"
    receiver.robots["moved"].behaviour = "redirect"
    receiver.robots["healing"].behaviour, receiver.robots["healing"].calls_left = "500", 3
    names = ("hanging", "broken", "moved", "healing", "one", "two")
    with capture_logs() as logs:
        async with reporter_to(";".join(receiver.url(name) for name in names), poster) as reporter:
            began = time.monotonic()
            for number in range(10):
                reporter.happened(failure(number))
                reporter.happened(failure(number))
            assert time.monotonic() - began < 1
            working = ("healing", "one", "two")
            await seen(lambda: all(len(receiver.robots[name].taken) >= 10 for name in working))
            await seen(lambda: receiver.robots["moved"].calls >= 10 and receiver.robots["broken"].calls >= 8)
    for name in working:
        texts = receiver.robots[name].texts()
        assert [f"- **失败信息**: boom {n}\n" in text for n, text in enumerate(texts)] == [True] * 10
    assert receiver.robots["hanging"].calls == 1
    assert receiver.robots["moved"].calls == 10
    assert not receiver.robots["elsewhere"].calls
    causes = {entry["hook"]: entry["cause"] for entry in logs if entry["event"] == "hook does not take reports"}
    assert sorted(causes.values()) == [
        "answered status 500",
        "answered status 500",
        "redirects (status 302): name the URL that it redirects to",
    ]
    assert SECRET not in str(logs)


async def test_the_message_is_what_a_robot_gets_from_the_original(receiver: Receiver, poster: Poster) -> None:
    await DingTalk(receiver.url("robot"), "robot", poster).send(REPORT)
    robot = receiver.robots["robot"]
    assert robot.headers[0]["Content-Type"] == "application/json"
    assert robot.taken == [
        {
            "msgtype": "markdown",
            "markdown": {
                "title": "Log Notification",
                "text": "## MC告警\n\n- **Trace ID**: t\n- **工单类型**: vpod_deploy\n- **节点**: ContainerStart\n"
                "- **结果**: fail\n- **失败信息**: boom\n- **错误代码**: 01002\n- **部署信息**: [base: b1\n]",
            },
        }
    ]


@pytest.mark.parametrize(
    ("behaviour", "again", "message"),
    [
        ("500", True, "status 500"),
        ("redirect", False, "redirects"),
        ("errcode", False, "errcode 310000: keywords not in content"),
        ("hang", True, "no answer in time"),
    ],
)
async def test_what_a_robot_answers_is_read(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    again: bool,
    message: str,
) -> None:
    monkeypatch.setattr(posting, "WITHIN", ClientTimeout(total=1.0))
    receiver.robots["robot"].behaviour = behaviour
    async with Poster() as poster:
        with pytest.raises(Undelivered, match=message) as refused:
            await DingTalk(receiver.url("robot"), "robot", poster).send(REPORT)
    assert refused.value.again is again
    assert SECRET not in str(refused.value)


async def test_a_robot_that_is_not_there_is_tried_again(receiver: Receiver, poster: Poster) -> None:
    url = receiver.url("robot").replace(str(receiver.port), "1")
    with pytest.raises(Undelivered, match="cannot be reached") as refused:
        await DingTalk(url, "robot", poster).send(REPORT)
    assert refused.value.again
    assert SECRET not in str(refused.value)


async def test_a_huge_answer_is_not_read_to_its_end(receiver: Receiver, poster: Poster) -> None:
    receiver.robots["robot"].behaviour = "endless"
    answer = await poster.post(receiver.url("robot"), {})
    assert len(answer) == posting.LARGEST_ANSWER


async def test_apprise_delivers_or_says_why_it_cannot(receiver: Receiver) -> None:
    hook = Apprise(f"json://127.0.0.1:{receiver.port}/robot/send", "hook")
    await hook.send(REPORT)
    (taken_report,) = receiver.robots["robot"].taken
    assert taken_report["title"] == "ContainerStart fail"
    assert taken_report["message"] == "boom\n\ncode: 01002\nscene: vpod_deploy\ntrace: t\nbase: b1"
    receiver.robots["robot"].behaviour = "500"
    with pytest.raises(Undelivered, match="500") as refused:
        await hook.send(REPORT)
    assert refused.value.again
    receiver.robots["robot"].behaviour = "redirect"
    with pytest.raises(Undelivered):
        await hook.send(REPORT)
    assert not receiver.robots["elsewhere"].calls


async def test_apprise_that_hangs_is_given_up_and_blocks_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.reports.apprises.WITHIN", 0.2)
    receiver.robots["robot"].behaviour = "hang"
    hook = Apprise(f"json://127.0.0.1:{receiver.port}/robot/send", "hook")
    with pytest.raises(Undelivered, match="no answer within"):
        await hook.send(REPORT)
    with pytest.raises(Undelivered, match="has not come to an end"):
        await hook.send(REPORT)
    assert receiver.robots["robot"].calls == 1
