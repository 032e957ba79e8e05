"""mctl drain against a fake server: its requests, its output and its exit codes."""

import os
import pty
import subprocess
import sys

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from tests.fakes.tooling import FakeTooling, Fault, ToolingServer
from tests.integration.mctl.conftest import Mctl


@pytest.fixture(autouse=True)
def replicas(fake: FakeTooling) -> None:
    fake.replicas = [pb.Replica(id="a", vnodes=3, state="active"), pb.Replica(id="b", vnodes=1, state="active")]


def asked(fake: FakeTooling) -> list[pb.DrainReplicaRequest]:
    return [request for request in fake.requests["DrainReplica"] if isinstance(request, pb.DrainReplicaRequest)]


def test_a_drain_is_asked_for_and_undone(fake: FakeTooling, mctl: Mctl) -> None:
    outcome = mctl("drain", "a")
    assert (outcome.code, outcome.out, outcome.err) == (0, "replica/a draining: it still owns 3 VNodes\n", "")
    outcome = mctl("drain", "a", "--undo")
    assert (outcome.code, outcome.out, outcome.err) == (0, "replica/a takes VNodes again; it owns 3\n", "")
    assert asked(fake) == [pb.DrainReplicaRequest(replica="a"), pb.DrainReplicaRequest(replica="a", undo=True)]


def test_waiting_ends_when_it_owns_nothing(fake: FakeTooling, mctl: Mctl) -> None:
    fake.drain_by = 1
    outcome = mctl("drain", "a", "--wait")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == ["replica/a draining: it still owns 3 VNodes", "replica/a drained"]


def test_a_wait_that_is_over_says_what_is_left(mctl: Mctl) -> None:
    outcome = mctl("drain", "b", "--wait", "--timeout", "300ms")
    assert outcome.code == 4
    assert outcome.err == (
        "mctl: timed out after 0.3s: replica b still owns 1 VNode; "
        "it goes on draining, mctl get shards shows which VNodes are left\n"
    )


def test_refusals_have_the_documented_codes(fake: FakeTooling, mctl: Mctl) -> None:
    assert mctl("drain", "nosuch").code == 3
    last = "a is the last replica that takes VNodes: start another one or undo a drain first"
    fake.fail("DrainReplica", Fault(grpc.StatusCode.FAILED_PRECONDITION, last))
    outcome = mctl("drain", "a", "--wait")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", f"mctl: {last}\n")
    fake.fail("DrainReplica", Fault(grpc.StatusCode.UNAVAILABLE))
    assert mctl("drain", "a").code == 0


def test_a_terminal_is_shown_progress(fake: FakeTooling, server: ToolingServer) -> None:
    fake.drain_by = 1
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mctl", "drain", "a", "--wait"],
            env={**os.environ, "MCTL_SERVER": server.address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
            check=False,
        )
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[-1] == "replica/a drained"
    assert "\r\x1b[Kreplica/a draining: it still owns 1 VNode" in shown
    assert shown.endswith("\r\x1b[K")
