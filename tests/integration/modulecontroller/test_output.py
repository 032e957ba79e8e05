"""A program whose standard output is full, closed or no longer read prints one line of error, or nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from tests.fakes.tooling import FakeTooling, ToolingServer
from tests.integration.mctl.conftest import module, vnode
from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import Programs

ROOT = Path(__file__).parents[3]
LIMIT = 60.0

COMMANDS = (
    ("mctl", "--help"),
    ("mctl", "get --help"),
    ("mctl", "version"),
    ("mctl", "completion bash"),
    ("mctl", "get vnodes"),
    ("mctl", "get vnodes -o wide"),
    ("mctl", "get vnodes -o json"),
    ("mctl", "get vnodes -o yaml"),
    ("mctl", "get vnodes -o name"),
    ("mctl", "get vnodes --watch"),
    ("mctl", "get modules --watch -o json"),
    ("mctl", "get gateways --watch"),
    ("mctl", "describe vnode base-1"),
    ("mctl", "describe module biz1"),
    ("mctl", "events --watch"),
    ("mctl", "wait vnode/base-1"),
    ("mctl", "apply -f examples/biz1.yaml --dry-run"),
    ("controlplane", "--help"),
    ("gateways.http", "--help"),
    ("gateways.mqtt", "--help"),
    ("simulatedbase", "--help"),
    ("modulecontroller", "--version"),
    ("modulecontroller", "quickstart --help"),
    ("modulecontroller", "config"),
    ("modulecontroller", "config --output json"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    fake = FakeTooling(
        vnodes=[vnode("base-1")],
        modules=[module("base-1")],
        gateways=[pb.Gateway(id="gw-1")],
        events=[pb.Event(reason="First")],
    )
    with ToolingServer(fake) as running:
        yield running.address


def end(server: str, program: str, arguments: str, redirected: str, **environ: str) -> tuple[int, str]:
    """Run a program in a shell that redirects its output; return its exit code and its error output."""
    shell = f"exec {sys.executable} -m {program} {arguments} {redirected}"
    done = subprocess.run(
        ["sh", "-c", shell],
        cwd=ROOT,
        env={**os.environ, "MCTL_SERVER": server, "PYTHONUNBUFFERED": "", "PYTHONWARNINGS": "", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(("program", "arguments"), COMMANDS)
def test_a_full_disk_is_one_line_and_code_1(server: str, program: str, arguments: str, unbuffered: str) -> None:
    code, error = end(server, program, arguments, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (code, error.count("\n")) == (1, 1)
    assert error.endswith(": cannot write the output: No space left on device\n")


@pytest.mark.parametrize(("program", "arguments"), COMMANDS)
def test_a_reader_that_went_away_is_no_error(server: str, program: str, arguments: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        process = subprocess.run(
            [sys.executable, "-m", program, *arguments.split()],
            cwd=ROOT,
            env={**os.environ, "MCTL_SERVER": server},
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    finally:
        os.close(write)
    assert (process.returncode, process.stderr) == (141, "")


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "2>/dev/full", ">&- 2>&-"])
def test_streams_that_are_closed_or_full_are_no_trace(server: str, redirected: str) -> None:
    code, error = end(server, "mctl", "get vnodes", redirected)
    assert code == (1 if ">&-" in redirected.split() else 0)
    assert error == ("mctl: cannot write the output: Bad file descriptor\n" if redirected == ">&-" else "")
    code, _ = end(server, "mctl", "get vnodes nobody", redirected)
    assert code == (1 if ">&-" in redirected.split() else 3)


@pytest.mark.parametrize("output", ["/dev/full", "pipe"])
def test_a_quick_start_whose_output_nobody_reads_ends_in_order(programs: Programs, output: str) -> None:
    controller = ModuleController(programs, "quickstart", "--data-dir", str(programs.folder / "data"))
    shown = "| head -n 1" if output == "pipe" else ">/dev/full"
    shell = f"( {sys.executable} -m modulecontroller {' '.join(controller.arguments)}; echo $? >&2 ) {shown}"
    done = subprocess.run(
        ["sh", "-c", shell],
        env={**os.environ, **controller.environ},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if output == "pipe":
        assert done.stdout.startswith("starting: ")
        assert done.stderr == "141\n"
    else:
        assert done.stderr == "module-controller: cannot write the output: No space left on device\n1\n"
    assert controller.processes() == {}
