"""mctl as a process: watches, signals, pipes, terminals and the shell's completion."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from tests.fakes.tooling import FakeTooling, Fault, ToolingServer
from tests.integration.mctl.conftest import vnode
from tests.programs import eventually

MCTL = [sys.executable, "-m", "mctl"]
TIMEOUT = 30.0
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def environment(server: ToolingServer, **more: str) -> dict[str, str]:
    return {**os.environ, "MCTL_SERVER": server.address, "PYTHONUNBUFFERED": "", **more}


@contextmanager
def running(server: ToolingServer, *argv: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*MCTL, *argv],
        env=environment(server),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # A line that never comes ends the test, not the run of all tests.
    limit = threading.Timer(TIMEOUT, process.kill)
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.readline()
    assert text, "mctl ended"
    return text


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, err


def test_watch_prints_each_change_at_once_and_ends_with_130(fake: FakeTooling, server: ToolingServer) -> None:
    fake.vnodes = [vnode("base-1")]
    with running(server, "get", "vnodes", "-w", "-o", "json") as process:
        first = json.loads(line(process))
        assert (first["type"], first["object"]["base"]) == ("ADDED", "base-1")
        fake.vnode_changes.put(pb.WatchVNodesResponse(type=pb.CHANGE_TYPE_MODIFIED, vnode=vnode("base-1", ready=False)))
        second = json.loads(line(process))
        assert (second["type"], second["object"]["state"]) == ("MODIFIED", "Unreachable")
        assert interrupt(process) == (130, "")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(grpc.StatusCode.UNAVAILABLE, "restarting"),
        Fault(grpc.StatusCode.UNAVAILABLE, "this replica ends", reason="ENDING"),
        Fault(grpc.StatusCode.CANCELLED, "the server stops"),
    ],
    ids=lambda fault: fault.reason or fault.code.name,
)
def test_watch_goes_on_after_the_stream_was_cut(fake: FakeTooling, server: ToolingServer, fault: Fault) -> None:
    fake.vnodes = [vnode("base-1"), vnode("base-2")]
    with running(server, "get", "vnodes", "-w") as process:
        assert line(process).split()[:2] == ["CHANGE", "NAME"]
        assert [line(process).split()[:2] for _ in range(2)] == [
            ["ADDED", "vnode.base-1.dev"],
            ["ADDED", "vnode.base-2.dev"],
        ]
        fake.vnodes = [vnode("base-2"), vnode("base-3")]
        fake.vnode_changes.put(fault)
        assert [line(process).split()[:2] for _ in range(2)] == [
            ["DELETED", "vnode.base-1.dev"],
            ["ADDED", "vnode.base-3.dev"],
        ]


def test_what_is_as_before_the_stream_was_cut_is_not_shown_again(fake: FakeTooling, server: ToolingServer) -> None:
    fake.vnodes = [vnode("base-1")]
    fake.vnodes[0].last_seen.seconds = 1_790_000_000
    with running(server, "get", "vnodes", "-w", "--no-headers") as process:
        assert line(process).split()[:2] == ["ADDED", "vnode.base-1.dev"]
        fake.vnodes.append(vnode("base-2"))
        fake.vnode_changes.put(Fault(grpc.StatusCode.UNAVAILABLE, "restarting"))
        assert line(process).split()[:2] == ["ADDED", "vnode.base-2.dev"]
        fake.vnode_changes.put(pb.WatchVNodesResponse(type=pb.CHANGE_TYPE_DELETED, vnode=vnode("base-2")))
        assert line(process).split()[:2] == ["DELETED", "vnode.base-2.dev"]


def test_events_are_followed_without_repeats(fake: FakeTooling, server: ToolingServer) -> None:
    fake.events = [pb.Event(reason="First")]
    with running(server, "events", "--watch", "-o", "json") as process:
        assert json.loads(line(process))["object"]["reason"] == "First"
        fake.event_changes.put(Fault(grpc.StatusCode.UNAVAILABLE))
        fake.event_changes.put(pb.WatchEventsResponse(event=pb.Event(reason="Second")))
        assert json.loads(line(process))["object"]["reason"] == "Second"


def test_gateways_are_watched_by_polling(fake: FakeTooling, server: ToolingServer) -> None:
    fake.gateways = [pb.Gateway(id="gw-1")]
    with running(server, "get", "gateways", "-w", "-o", "json") as process:
        assert json.loads(line(process))["type"] == "ADDED"
        fake.gateways = []
        assert json.loads(line(process))["type"] == "DELETED"


def test_a_watch_warns_of_each_loss_and_goes_on(fake: FakeTooling, server: ToolingServer) -> None:
    fake.vnodes = [vnode("base-1")]
    with running(server, "get", "vnodes", "-w", "-o", "name") as process:
        assert line(process) == "vnode/vnode.base-1.dev\n"
        for unreachable in (["a"], ["a"], [], ["a"]):
            fake.vnode_changes.put(pb.WatchVNodesResponse(unreachable_replicas=unreachable))
        fake.vnode_changes.put(pb.WatchVNodesResponse(type=pb.CHANGE_TYPE_ADDED, vnode=vnode("base-2")))
        assert line(process) == "vnode/vnode.base-2.dev\n"
        code, err = interrupt(process)
        assert (code, err.count("mctl: warning: cannot ask replica a: ")) == (130, 2)


def test_shards_are_watched_by_polling(fake: FakeTooling, server: ToolingServer) -> None:
    fake.shards = [pb.Shard(vnode="vnode.base-1.dev", owner="a", fence=1)]
    with running(server, "get", "shards", "-w", "-o", "json") as process:
        assert json.loads(line(process))["type"] == "ADDED"
        fake.shards = [pb.Shard(vnode="vnode.base-1.dev", owner="b", fence=2)]
        changed = json.loads(line(process))
        assert (changed["type"], changed["object"]["owner"]) == ("MODIFIED", "b")


def test_an_interrupt_ends_a_wait_with_130(fake: FakeTooling, server: ToolingServer) -> None:
    with running(server, "wait", "vnode/x", "--timeout", "60s", "--for", "ready") as process:
        eventually(lambda: bool(fake.requests), within=TIMEOUT, what="a request")
        assert interrupt(process) == (130, "")


def test_a_reader_that_goes_away_is_no_traceback(fake: FakeTooling, server: ToolingServer) -> None:
    fake.vnodes = [vnode(f"base-{i}") for i in range(2000)]
    with running(server, "get", "vnodes", "-o", "wide") as process:
        line(process)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_a_terminal_loses_no_text_and_stays_in_its_width(
    fake: FakeTooling, server: ToolingServer, columns: int
) -> None:
    fake.vnodes = [vnode("a-base-with-a-long-name")]
    environ = environment(server, COLUMNS=str(columns), TERM="xterm")
    argv = [*MCTL, "get", "vnodes"]
    master, slave = pty.openpty()
    try:
        subprocess.run(argv, env=environ, stdout=slave, stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=True)
        text = ANSI.sub("", os.read(master, 65536).decode()).replace("\r", "")
    finally:
        os.close(master)
        os.close(slave)
    plain = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
    assert max(map(len, text.splitlines())) <= columns
    assert sorted("".join(text.split())) == sorted("".join(plain.split()))


COMPLETE = """
source "{script}"
COMP_LINE="$1" COMP_POINT=${{#1}}
read -ra COMP_WORDS <<< "$1"
_mctl_completion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def installed() -> Path:
    path = Path(sys.executable).with_name("mctl")
    if not path.exists() or shutil.which("bash") is None:
        pytest.skip("mctl is not installed as a program, or there is no bash")
    return path


@pytest.fixture(scope="module")
def script(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bash") / "completion"
    path.write_bytes(subprocess.run([installed, "completion", "bash"], capture_output=True, check=True).stdout)
    return path


@pytest.mark.parametrize(
    ("typed", "answers"),
    [
        ("get vn", {"vnodes"}),
        ("get ", {"vnodes", "modules", "gateways", "replicas", "shards"}),
        ("--server {server} get vn", {"vnodes"}),
        ("get vnodes -o ", {"table", "wide", "json", "yaml", "name"}),
        ("wait --for=r", {"ready"}),
        ("get vnodes base-", {"base-1", "base-2"}),
        ("install biz1 --base base-", {"base-1", "base-2"}),
        ("drain replica-", {"replica-0", "replica-1"}),
        ("get shards --owner replica-1", {"replica-1"}),
        ("completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(
    fake: FakeTooling, server: ToolingServer, installed: Path, script: Path, typed: str, answers: set[str]
) -> None:
    fake.vnodes = [vnode("base-1"), vnode("base-2")]
    fake.replicas = [pb.Replica(id="replica-0"), pb.Replica(id="replica-1")]
    done = subprocess.run(
        [
            "bash",
            "--norc",
            "-c",
            COMPLETE.format(script=script),
            "bash",
            f"{installed} {typed}".format(server=server.address),
        ],
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert set(done.stdout.split()) == answers
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "mctl get vn"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "mctl get vn", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_other_shells_get_script_and_answers(server: ToolingServer, shell: str, variables: dict[str, str]) -> None:
    def run(argv: list[str], **more: str) -> str:
        return subprocess.run(
            argv, env=environment(server, **more), capture_output=True, text=True, timeout=TIMEOUT, check=True
        ).stdout

    script = run([*MCTL, "completion", shell])
    assert f"_MCTL_COMPLETE=complete_{shell}" in script
    assert all(name in script for name in variables)
    assert "vnodes" in run(MCTL, _MCTL_COMPLETE=f"complete_{shell}", **variables)
