"""With the real programs, a failed install is reported to a robot, to the tracker's file and its link."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.integration.reports.receiver import SECRET, Receiver
from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, ask, eventually

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().running() as receiver:
        yield receiver


async def soon(look: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(eventually, look, within=60, what=what)


async def test_failures_reach_the_robot_once_and_the_trackers_file(receiver: Receiver, tmp_path: Path) -> None:
    receiver.robots["hanging"].behaviour = "hang"
    with Programs(tmp_path) as programs:
        report_port = programs.port()
        (tmp_path / "tracker.yaml").write_text(
            f"logDir: {tmp_path}\nreportLevel: debug\nreportLinks: ['http://127.0.0.1:{report_port}/log']\n"
        )
        control_plane = ControlPlane(
            programs,
            CLUSTER="embedded",
            EMBEDDED_DB=str(tmp_path / "cluster.db"),
            REPORT_PORT=str(report_port),
            REPORT_HOOKS=f"{receiver.url('hanging')}; {receiver.url('robot')}",
            TRACKER_CONFIG_PATH=str(tmp_path / "tracker.yaml"),
        )
        await asyncio.to_thread(control_plane.start)
        gateway = HttpGateway(programs, control_plane.address)
        await asyncio.to_thread(gateway.start)
        base = SimulatedBase(programs, gateway.url, "b1", "--fail-install", "bad")
        await asyncio.to_thread(base.start)
        mctl = control_plane.mctl()

        def run(*arguments: str) -> None:
            mctl(*arguments)

        await asyncio.to_thread(run, "wait", "--for=ready", "vnode/b1", "--timeout", "60s")
        for module in ("good", "bad"):
            url = f"https://repo.example/{module}.jar"
            await asyncio.to_thread(run, "install", module, "--version", "1", "--url", url, "--base", "b1")
        robot, path = receiver.robots["robot"], tmp_path / "events.log"
        await soon(lambda: len(robot.taken) >= 1, "the robot's message")
        await soon(lambda: path.exists() and path.read_text().count("[ContainerStart]") >= 2, "lines of events.log")
        # The install of the bad module is tried again after ten seconds: a repetition, which is only counted.
        await soon(lambda: path.read_text().count("[fail]") >= 2, "the second attempt")
        code, _ = await asyncio.to_thread(
            ask, f"http://127.0.0.1:{report_port}/log", method="POST", body=json.dumps({"message": "from CI"}).encode()
        )
        assert code == 200
        await soon(lambda: len(robot.taken) >= 2, "the report of another program")
        metrics = (await asyncio.to_thread(ask, f"http://127.0.0.1:{control_plane.metrics}/metrics"))[1]
        log = control_plane.server.log.read_text()

    failed, forwarded = robot.texts()
    assert "- **节点**: ContainerStart\n- **结果**: fail\n" in failed
    assert "- **错误代码**: 01002\n" in failed
    assert "module: bad:1\n" in failed
    assert "- **失败信息**: from CI\n" in forwarded
    assert receiver.robots["hanging"].calls <= 2
    lines = path.read_text().splitlines()
    stamp = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\]"
    assert all(re.fullmatch(stamp + r"(, \[.*\]){8}", line) for line in lines)
    assert any("[ContainerStart]" in line and "[success], [00000]" in line and '"good:1"' in line for line in lines)
    assert re.search(r'koupleless_hook_reports_total\{kind="dingtalk",outcome="sent"\} 2\.0', metrics)
    assert re.search(r'koupleless_hook_reports_total\{kind="link",outcome="sent"\} [3-9]\.0', metrics)
    assert SECRET not in log


async def test_what_cannot_be_used_is_left_out_and_all_else_goes_on(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "tracker.yaml").write_text(
        f"logDir: {tmp_path}/none\nreportLinks: ['{receiver.url('link')}', 'ftp://host/log']\n"
    )
    wrong = f"YOUR_REPORT_HOOKS;htps://oapi.dingtalk.com/robot/send?access_token={SECRET}"
    with Programs(tmp_path) as programs:
        report_port = programs.port()
        control_plane = ControlPlane(
            programs,
            CLUSTER="embedded",
            EMBEDDED_DB=str(tmp_path / "cluster.db"),
            REPORT_PORT=str(report_port),
            REPORT_HOOKS=f"{wrong}; {receiver.url('robot')}",
            TRACKER_CONFIG_PATH=str(tmp_path / "tracker.yaml"),
        )
        await asyncio.to_thread(control_plane.start)
        code, _ = await asyncio.to_thread(
            ask, f"http://127.0.0.1:{report_port}/log", method="POST", body=json.dumps({"message": "from CI"}).encode()
        )
        assert code == 200
        await soon(lambda: receiver.robots["robot"].taken, "the report at the hook that can be used")
        metrics = (await asyncio.to_thread(ask, f"http://127.0.0.1:{control_plane.metrics}/metrics"))[1]
        log = control_plane.server.log.read_text()
    for kind, number in (("hook", 2), ("link", 1), ("tracker", 1)):
        assert f'koupleless_reporting_unusable{{kind="{kind}"}} {number}.0' in metrics
    for message in (
        "hook 1 (***) gets no reports: it is not a URL",
        "hook 2 (htps://***) gets no reports: there is no service htps://; did you mean https://?",
        "link 2 (ftp://***) gets no reports: it must begin with http",
        f"logDir: there is no folder {tmp_path}/none",
    ):
        assert log.count(message) == 1, message
    assert SECRET not in log


def test_without_the_trackers_file_nothing_is_tracked(tmp_path: Path) -> None:
    with Programs(tmp_path) as programs:
        control_plane = ControlPlane(
            programs,
            CLUSTER="embedded",
            EMBEDDED_DB=str(tmp_path / "cluster.db"),
            TRACKER_CONFIG_PATH="/does/not/exist.yaml",
        ).start()
        log = control_plane.server.log.read_text()
        metrics = ask(f"http://127.0.0.1:{control_plane.metrics}/metrics")[1]
    assert "TRACKER_CONFIG_PATH=/does/not/exist.yaml: it cannot be read (No such file or directory)" in log
    assert 'koupleless_reporting_unusable{kind="tracker"} 1.0' in metrics
