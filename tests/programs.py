"""Our own programs as real processes, for tests and benchmarks: on free ports, with log files."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from koupleless.modulecontroller.v1 import module_controller_pb2 as tooling
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc as tooling_grpc

from tests import bearer
from tests.servers.process import Port, Server

STARTED_WITHIN = 60.0
POLL = 0.1

T = TypeVar("T")


class Programs:
    """Starts programs, and ends what still runs; a context manager. folder holds logs and data.

    Each may open so many files, where that is given.
    """

    def __init__(self, folder: Path, files: int | None = None) -> None:
        self.folder = folder
        self._limited = [] if files is None else ["prlimit", f"--nofile={files}:{files}"]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def port(self) -> int:
        """Return a port of 127.0.0.1 that no other program gets."""
        port = Port()
        self._stack.callback(port.close)
        return port.number

    def program(self, name: str, module: str, *arguments: str, environ: Mapping[str, str]) -> Server:
        """Return a program that has not been started."""
        settings = [f"{key}={value}" for key, value in {"XDG_STATE_HOME": str(self.folder), **environ}.items()]
        command = [*self._limited, "env", "-u", "KUBECONFIG", *settings, sys.executable, "-m", module, *arguments]
        server = Server(name, command, self.folder / f"{name}.log")
        self._stack.callback(server.stop)
        return server


class ControlPlane:
    """A control plane process; environ chooses its cluster."""

    def __init__(self, programs: Programs, name: str = "controlplane", **environ: str) -> None:
        self._folder = programs.folder
        self.grpc = int(environ.get("GRPC_PORT") or programs.port())
        self.health, self.metrics = programs.port(), programs.port()
        self.server = programs.program(
            name,
            "controlplane",
            environ={
                "CLIENT_ID": name,
                "GRPC_HOST": "127.0.0.1",
                "GRPC_PORT": str(self.grpc),
                "HEALTH_PORT": str(self.health),
                "METRICS_PORT": str(self.metrics),
                "REPORT_PORT": str(programs.port()),
                "HTTP_TUNNEL_ALLOWED_CIDRS": "127.0.0.0/8",
                **environ,
            },
        )

    @property
    def address(self) -> str:
        """Where its gRPC server listens."""
        return f"127.0.0.1:{self.grpc}"

    def channel(self, role: str = "admin") -> grpc.Channel:
        """Return a channel whose calls show the token of a role of this machine; it has started once."""
        return bearer.channel(self.address, self._folder, role)

    def channel_of(self, token: str) -> grpc.Channel:
        """Return a channel whose calls show a token."""
        return bearer.showing(self.address, token)

    def bases(self) -> set[str]:
        """Return the identities of the bases that it knows."""
        with self.channel() as channel:
            stub = tooling_grpc.ModuleControllerServiceStub(channel)
            return {vnode.base for vnode in stub.ListVNodes(tooling.ListVNodesRequest(), timeout=5).items}

    def mctl(self) -> "Mctl":
        """Return mctl for the admin of this machine."""
        return Mctl(self.address, self._folder)

    def start(self, *, ready: bool = True) -> Self:
        """Start it and wait until it is ready, or at least answers."""
        self.server.start()
        path = "readyz" if ready else "livez"
        self.server.wait_until(lambda: status(f"http://127.0.0.1:{self.health}/{path}") == 200, within=STARTED_WITHIN)
        return self

    def readiness(self) -> tuple[int, str]:
        """Return status and text of /readyz."""
        return ask(f"http://127.0.0.1:{self.health}/readyz")


class HttpGateway:
    """An HTTP gateway process that accepts bases on loopback."""

    def __init__(self, programs: Programs, control_plane: str, name: str = "http-gateway", **environ: str) -> None:
        self.port, self.health, self.metrics = programs.port(), programs.port(), programs.port()
        self.server = programs.program(
            name,
            "gateways.http",
            environ={
                "CLIENT_ID": name,
                "CONTROL_PLANE": control_plane,
                "HTTP_TUNNEL_LISTEN_PORT": str(self.port),
                "HTTP_TUNNEL_ALLOWED_CIDRS": "127.0.0.0/8",
                "HEALTH_PORT": str(self.health),
                "METRICS_PORT": str(self.metrics),
                **environ,
            },
        )

    @property
    def url(self) -> str:
        """Where bases send their heartbeats."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        self.server.start()
        self.server.wait_until(lambda: status(f"http://127.0.0.1:{self.health}/readyz") == 200, within=STARTED_WITHIN)
        return self


class MqttGateway:
    """An MQTT gateway process on a broker of this machine."""

    def __init__(
        self, programs: Programs, control_plane: str, broker_port: int, name: str = "mqtt-gateway", **environ: str
    ) -> None:
        self.name, self.health, self.metrics = name, programs.port(), programs.port()
        self.server = programs.program(
            name,
            "gateways.mqtt",
            environ={
                "CLIENT_ID": name,
                "CONTROL_PLANE": control_plane,
                "MQTT_BROKER": "127.0.0.1",
                "MQTT_PORT": str(broker_port),
                "HEALTH_PORT": str(self.health),
                "METRICS_PORT": str(self.metrics),
                **environ,
            },
        )

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        self.server.start()
        self.server.wait_until(lambda: status(f"http://127.0.0.1:{self.health}/readyz") == 200, within=STARTED_WITHIN)
        return self


class SimulatedBase:
    """A simulated base process, controlled through its admin port."""

    def __init__(
        self, programs: Programs, controller: str, identity: str, *arguments: str, ip: str = "127.0.0.1"
    ) -> None:
        self.identity = identity
        self.admin = programs.port()
        self.port = programs.port()
        self.server = programs.program(
            f"base-{identity}-{self.port}",
            "simulatedbase",
            *("--identity", identity, "--controller", controller, "--admin-port", str(self.admin)),
            *("--port", str(self.port), "--ip", ip, "--listen", ip, "--heartbeat-interval", "2"),
            *arguments,
            environ={},
        )

    def start(self) -> Self:
        """Start it and wait until it listens."""
        self.server.start()
        self.server.wait_until(
            lambda: status(f"http://127.0.0.1:{self.admin}/admin/bases") == 200, within=STARTED_WITHIN
        )
        return self

    def commands(self, verb: str = "") -> list[Any]:
        """Return the bodies of the commands received, of one verb or of all but polls."""
        _, text = ask(f"http://127.0.0.1:{self.admin}/admin/commands")
        polls = ("queryAllBiz", "health")
        return [c["body"] for c in json.loads(text) if (c["verb"] == verb if verb else c["verb"] not in polls)]

    def modules(self) -> dict[str, str]:
        """Return the modules inside: name:version to state."""
        _, text = ask(f"http://127.0.0.1:{self.admin}/admin/bases")
        return {f"{m['name']}:{m['version']}": m["state"].lower() for m in json.loads(text)[0]["modules"]}

    def control(self, what: str) -> None:
        """Change how it behaves, for example "restart" or "hang?command=installBiz"."""
        code, text = ask(f"http://127.0.0.1:{self.admin}/admin/{what}", method="POST")
        assert code == 200, text


class Mctl:
    """Runs mctl against one server, as the admin of a machine whose state is in a folder."""

    def __init__(self, server: str, state: Path) -> None:
        self.server, self.state = server, state
        self.environ = {**os.environ, "XDG_STATE_HOME": str(state), "XDG_CONFIG_HOME": str(state)}
        self.environ.pop("KUBECONFIG", None)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command and return its output, or its error output; fails when the exit code is another one."""
        out, err = self.run(*arguments, code=code)
        return out if code == 0 else err

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command and return standard output and standard error; fails when the exit code is another one."""
        command = [sys.executable, "-m", "mctl", "--server", self.server, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=self.environ)
        assert done.returncode == code, f"mctl {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout, done.stderr

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the items that a command prints as JSON."""
        found: list[dict[str, Any]] = json.loads(self(*arguments, "-o", "json"))["items"]
        return found


def ask(url: str, *, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
    """Return status and text of an answer; raises OSError when there is none."""
    request = urllib.request.Request(url, method=method, data=body)
    try:
        with urllib.request.urlopen(request, timeout=10.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def status(url: str) -> int:
    """Return the status of an answer, 0 when there is none."""
    try:
        return ask(url)[0]
    except OSError:
        return 0


def eventually(look: Callable[[], T], *, within: float, what: str) -> T:
    """Return what look returns once that is true; fails with what was last seen."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}; last seen: {seen!r}"
        time.sleep(POLL)


def throughout(look: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Fail when look is not true at any time within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert look(), f"not all the time: {what}"
        time.sleep(POLL)
