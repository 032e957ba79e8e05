"""A module-controller process with its children, found again by a mark in their environment."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.programs import Programs, ask, status
from tests.servers.process import Server

MARK = "TEST_MARK"


class ModuleController:
    """One run of the program. Every process that it starts inherits a mark, so that all can be found."""

    def __init__(self, programs: Programs, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self.ports = {
            name: programs.port()
            for name in ("GRPC_PORT", "HEALTH_PORT", "METRICS_PORT", "REPORT_PORT", "HTTP_TUNNEL_LISTEN_PORT")
        }
        self.mark = f"{programs.folder.name}-{self.ports['GRPC_PORT']}"
        self.environ = {
            "CLUSTER": "embedded",
            "EMBEDDED_DB": str(programs.folder / "cluster.db"),
            "CLIENT_ID": "mc",
            "ENABLE_HTTP_TUNNEL": "true",
            "HTTP_TUNNEL_LISTEN_HOST": "127.0.0.1",
            "HTTP_TUNNEL_ALLOWED_CIDRS": "127.0.0.0/8",
            "LOG_FORMAT": "json",
            MARK: self.mark,
            **{name: str(port) for name, port in self.ports.items()},
            **(environ or {}),
        }
        self.arguments = arguments
        self._folder = programs.folder
        self.server: Server = programs.program(
            "module-controller", "modulecontroller", *arguments, environ=self.environ
        )

    def url(self, path: str, port: str = "HEALTH_PORT") -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def ready(self) -> bool:
        return status(self.url("/readyz")) == 200

    def start(self) -> Self:
        self.server.start()
        self.server.wait_until(self.ready, within=60.0)
        return self

    def metrics(self) -> str:
        return ask(self.url("/metrics", "METRICS_PORT"))[1]

    def processes(self) -> dict[int, str]:
        """Return the processes of this run that still run, with the Python module of each."""
        wanted = f"{MARK}={self.mark}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid = int(folder.name)
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    command = (folder / "cmdline").read_text().split("\0")
                    found[pid] = command[command.index("-m") + 1]
        return found

    def pid(self, module: str) -> int:
        (pid,) = [pid for pid, name in self.processes().items() if name == module]
        return pid

    def mctl(self, *arguments: str) -> str:
        """Run mctl, which must succeed, and return what it printed."""
        command = [sys.executable, "-m", "mctl", "--server", f"127.0.0.1:{self.ports['GRPC_PORT']}", *arguments]
        done = run(command, {**os.environ, "XDG_STATE_HOME": str(self._folder), **self.environ}, 60.0)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self.server.pid, signal.SIGINT)

    def once(self, *, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run it to its end instead."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("MQTT_")}
        return run([sys.executable, "-m", "modulecontroller", *self.arguments], {**environ, **self.environ}, seconds)


def run(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as programs:
        yield programs
