"""Programs started by tests, and loopback ports for them, without leaving anything behind."""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

POLL = 0.05
ENDED_POLL = 0.01
PROGRESS_EVERY = 10.0
TAIL_LINES = 25
TAIL_BYTES = 16_384


class ServerFailed(Exception):
    """A server did not start, or did not become ready; the message ends with the end of its log."""


class Port:
    """A TCP port that no other process gets until close, at any address of this machine.

    The socket stays bound and never listens. A server that sets SO_REUSEADDR, as they all do, can bind the port beside
    it, stop, and bind it again; the kernel gives it to no other socket that asks for any port. It is bound at all
    addresses: kept at one only, another socket could get it at another address, and keep out who listens at all.
    """

    def __init__(self) -> None:
        both = socket.has_dualstack_ipv6()
        self._socket = socket.socket(socket.AF_INET6 if both else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if both:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._socket.bind(("", 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


_KEPT: list[Port] = []


def free_port() -> int:
    """Return the number of a port that no other process gets until this one ends."""
    _KEPT.append(Port())
    return _KEPT[-1].number


class Server:
    """One program in a process group of its own, its output appended to a file.

    Where util-linux's setpriv is installed, the kernel kills the program when we end. start may be called again after
    stop. One that ended by itself stays a zombie until stop or start: its process id, which names its group, is given
    to no other program that stop would then kill.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [*_tied_to_us(), *command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; raises ServerFailed when it was not started."""
        if self._process is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and _exit_code(self._process) is None

    def start(self) -> None:
        """Start the program."""
        if self.running:
            return
        if self._process is not None:
            self._process.wait()
        with self.log.open("ab") as output:
            self._process = _launcher().submit(self._spawn, output.fileno()).result()

    def _spawn(self, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.log.parent,
        )

    def stop(self, how: signal.Signals = signal.SIGTERM, *, within: float = 10.0) -> None:
        """End the program and all that it started: by a signal first, after some seconds by SIGKILL."""
        if self._process is None:
            return
        if self.running:
            self.signal(how)
            deadline = time.monotonic() + within
            while self.running and time.monotonic() < deadline:
                time.sleep(ENDED_POLL)
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def signal(self, how: signal.Signals) -> None:
        """Send a signal to the program and all that it started.

        SIGSTOP returns when every thread of the program has stopped: until then, one that runs on another core may
        still answer a request.
        """
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.killpg(self.pid, how)
            if how is signal.SIGSTOP:
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def wait_until(self, ready: Callable[[], bool], *, within: float) -> None:
        """Return when ready says so; raises ServerFailed when the program ends before, or time is up."""
        began = reported = time.monotonic()
        while not ready():
            now = time.monotonic()
            if not self.running:
                code = _exit_code(self._process) if self._process else None
                raise ServerFailed(f"{self.name} ended with code {code}\n{self.tail()}")
            if now - began > within:
                raise ServerFailed(f"{self.name} was not ready after {within:g} s\n{self.tail()}")
            if now - reported > PROGRESS_EVERY:
                print(f"{self.name}: not ready after {now - began:.0f} s", file=sys.stderr, flush=True)
                reported = now
            time.sleep(POLL)

    def tail(self) -> str:
        """Return the end of its output."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as output:
            output.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = output.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
            return "\n".join([f"--- end of {self.log}", *lines])
        return f"--- {self.log} is not there"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """Return how a program ended, as Popen does, and leave it a zombie; None while it runs."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def accepts(port: int) -> bool:
    """Return whether something listens on a port of 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


@functools.cache
def _launcher() -> ThreadPoolExecutor:
    # The kernel's "parent death" is the end of the thread that forked. Tests call us from short-lived threads
    # (asyncio.to_thread), so one thread that never ends starts everything.
    return ThreadPoolExecutor(1, "server-launcher")


@functools.cache
def _tied_to_us() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    tie = (setpriv, "--pdeathsig", "KILL")
    tried = subprocess.run([*tie, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    return tie if tried.returncode == 0 else ()
