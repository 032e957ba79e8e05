"""Programs of tests leave no process behind, and their ports stay theirs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.process import Port, Server, ServerFailed, accepts


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.05)


def test_a_kept_port_can_be_bound_again_and_again() -> None:
    port = Port()
    with contextlib.closing(port):
        assert not accepts(port.number)
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port.number)):
                assert accepts(port.number)
        assert not accepts(port.number)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_a_kept_port_is_given_to_nobody_at_another_address(address: str) -> None:
    # A program that listens at all addresses could not have it then.
    if ":" in address and not socket.has_dualstack_ipv6():
        pytest.skip("servers: this machine has no IPv6")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(Port()) as port, socket.socket(family) as other, pytest.raises(OSError, match="in use"):
        other.bind((address, port.number))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_kept_port_can_be_bound_at_every_address(address: str) -> None:
    if ":" in address and not socket.has_dualstack_ipv6():
        pytest.skip("servers: this machine has no IPv6")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(Port()) as port, socket.create_server((address, port.number), family=family):
        assert accepts(port.number) is (family is socket.AF_INET)


def test_stop_ends_what_the_program_started(tmp_path: Path) -> None:
    script = "sleep 300 & echo $!; trap '' TERM; wait; sleep 300"
    with Server("stubborn", ["sh", "-c", script], tmp_path / "log") as server:
        server.wait_until(lambda: server.log.read_text().strip() != "", within=10)
        child = int(server.log.read_text())
        server.stop(within=0.2)
        assert not server.running
        wait_gone(child)


def test_a_program_that_ends_is_reported_with_its_last_output(tmp_path: Path) -> None:
    with (
        Server("short", ["sh", "-c", "echo no such option; exit 3"], tmp_path / "log") as server,
        pytest.raises(ServerFailed, match=r"short ended with code 3\n(?s:.*)no such option"),
    ):
        server.wait_until(lambda: False, within=10)


def test_the_process_id_of_a_program_that_ended_stays_its_own_until_stop(tmp_path: Path) -> None:
    # Linux gives numbers again after pid_max, which can be 32,768 processes and threads: stop would kill a stranger.
    with Server("short", ["true"], tmp_path / "log") as server:
        pid = server.pid
        deadline = time.monotonic() + 10
        while server.running:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert Path(f"/proc/{pid}").exists()
        server.stop()
        assert not Path(f"/proc/{pid}").exists()


def test_programs_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, threading, time; from pathlib import Path; from tests.servers.process import Server\n"
        f"server = Server('orphan', ['sleep', '300'], Path({str(tmp_path / 'log')!r}))\n"
        "thread = threading.Thread(target=server.start); thread.start(); thread.join()\n"
        "time.sleep(0.5); print(server.pid if server.running else 0, flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as run:
        try:
            assert run.stdout is not None
            pid = int(run.stdout.readline())
            assert pid, "it must outlive the thread that started it"
            assert alive(pid)
            os.kill(run.pid, signal.SIGKILL)
            wait_gone(pid)
        finally:
            run.kill()
