"""Everything on one machine: embedded cluster, control plane, a gateway, simulated bases; to look at, or as a test."""

import asyncio
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from modulecontroller.children import Program
from modulecontroller.settings import QuickstartSettings
from modulecontroller.supervisor import Supervisor
from service.output import CannotWrite
from service.process import StartError
from service.settings import state_folder

_PORTS_OF_ARKLET = 100

BROKER_HOST = "127.0.0.1"
"""Where the broker listens that we run."""
_EMBEDDED_BROKER = {
    "MQTT_BROKER": BROKER_HOST,
    **dict.fromkeys(
        ("MQTT_USERNAME", "MQTT_PASSWORD", "MQTT_CA_PATH", "MQTT_CLIENT_CRT_PATH", "MQTT_CLIENT_KEY_PATH"), ""
    ),
}
"""How children reach it; an empty variable counts as not set."""

PROGRESS_EVERY = 3.0
"""Seconds between two lines that say what is still waited for."""
STEP_WITHIN = 60
"""Seconds for one step of the smoke test."""
COMMAND_WITHIN = 90
"""Seconds after which a command that should have given up by itself is killed."""
_PORTS = ("GRPC_PORT", "HTTP_TUNNEL_LISTEN_PORT", "HEALTH_PORT", "METRICS_PORT", "REPORT_PORT", "MQTT_PORT")


def default_data_dir() -> Path:
    """Return where the quick start keeps its cluster when nothing else is said."""
    return state_folder() / "quickstart"


def chosen(settings: QuickstartSettings, *, mqtt: bool) -> QuickstartSettings:
    """Return the settings with what the quick start sets itself."""
    own = {"enable_http_tunnel": not mqtt, "enable_mqtt_tunnel": mqtt, "client_id": "quickstart"}
    return settings.model_copy(update={**own, "status_host": "127.0.0.1"})


def environ(settings: QuickstartSettings, data_dir: Path) -> dict[str, str]:
    """Return what is set for all children; what the user set himself wins where it may."""
    return {
        **(_EMBEDDED_BROKER if runs_broker(settings) else {}),
        "CLUSTER": "embedded",
        "EMBEDDED_DB": str(data_dir / "cluster.db"),
        "ENV": settings.env,
        "HTTP_TUNNEL_ALLOWED_CIDRS": "127.0.0.0/8",
        "HTTP_TUNNEL_LISTEN_HOST": "127.0.0.1",
        "STATUS_HOST": "127.0.0.1",
        "LOG_FORMAT": os.environ.get("LOG_FORMAT", "console"),
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "warning"),
    }


def simulated_bases(settings: QuickstartSettings, number: int) -> Program:
    """Return the program that simulates so many bases; their ports stay the same from run to run."""
    ports = ("--port", "20000") if number > _PORTS_OF_ARKLET else ()
    over_http = ("--controller", f"http://127.0.0.1:{settings.http_tunnel_listen_port}", *ports)
    over_mqtt = ("--tunnel", "mqtt", "--env", settings.env, "--mqtt-port", str(settings.mqtt_port))
    return Program(
        name="simulated-base",
        module="simulatedbase",
        environ=_EMBEDDED_BROKER if runs_broker(settings) else {},
        arguments=(
            *("--identity", "base", "--count", str(number)),
            *(over_mqtt if settings.enable_mqtt_tunnel else over_http),
            *("--multi-version", "both", "--log-level", "warning"),
        ),
        answers=False,
    )


def runs_broker(settings: QuickstartSettings) -> bool:
    """Return whether a broker is to be run, too."""
    return settings.enable_mqtt_tunnel and not settings.mqtt_broker


def embedded_broker(settings: QuickstartSettings) -> Program:
    """Return the program that is the broker; raises StartError when its package is missing."""
    if find_spec("amqtt") is None:
        raise StartError(
            "--mqtt without MQTT_BROKER runs a broker by itself, and the Python package amqtt is not installed: "
            "install it (pip install 'koupleless-module-controller[broker]'), or name a broker with MQTT_BROKER"
        )
    return Program("broker", "modulecontroller.broker", {"MQTT_PORT": str(settings.mqtt_port)})


def assembled(settings: QuickstartSettings, *, bases: int, data_dir: Path) -> Supervisor:
    """Return all of it, not running yet; makes the data folder. Raises StartError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"--data-dir {data_dir}: {error.strerror}; name a folder that can be written") from error
    return Supervisor(
        settings,
        extra=environ(settings, data_dir),
        before=[embedded_broker(settings)] if runs_broker(settings) else [],
        more=[simulated_bases(settings, bases)] if bases else [],
    )


async def quickstart(settings: QuickstartSettings, stop: asyncio.Event, *, bases: int, data_dir: Path) -> None:
    """Run everything until stop is set, and print what runs where once it does. Raises StartError, CannotWrite."""
    supervisor = assembled(settings, bases=bases, data_dir=data_dir)
    tunnel = "MQTT" if settings.enable_mqtt_tunnel else "HTTP"
    broker = "MQTT broker, " if runs_broker(settings) else ""
    say(f"starting: {broker}embedded cluster, control plane, {tunnel} gateway and {bases} simulated bases")

    async def announce() -> None:
        try:
            await until_ready(supervisor.ready, supervisor.trouble)
            say(welcome(settings, bases, data_dir))
        except CannotWrite:
            stop.set()  # nobody reads any more: all ends, in order
            raise

    announcing = asyncio.create_task(announce(), name="announce")
    try:
        await supervisor.run(stop)
    finally:
        announcing.cancel()
        await asyncio.wait({announcing})
    if not announcing.cancelled():
        announcing.result()
    say("ended")


async def until_ready(ready: asyncio.Event, trouble: Callable[[], list[str]]) -> None:
    """Print every few seconds what is not ready yet, until all is."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while not ready.is_set():
        try:
            async with asyncio.timeout(PROGRESS_EVERY):
                await ready.wait()
        except TimeoutError:
            say(f"{clock() - began:5.0f} s  {'; '.join(trouble())}")


def say(text: str) -> None:
    """Print what the command is for; raises CannotWrite."""
    print(text, flush=True)  # noqa: T201


def example(name: str) -> Path:
    """Return where an example manifest is on this machine, with the checkout or the installed package."""
    return Path(str(files("modulecontroller") / "examples" / name)).resolve()


def welcome(settings: QuickstartSettings, bases: int, data_dir: Path) -> str:
    """Return what runs where and what to type next."""
    mctl = _shown(Path(sys.executable).parent / "mctl")
    server = "" if settings.grpc_port == 50051 else f"MCTL_SERVER=127.0.0.1:{settings.grpc_port} "
    manifest = _shown(example("biz1.yaml"))
    return f"""
ready. What runs where:
  gRPC API (mctl, gateways)   127.0.0.1:{settings.grpc_port}
{_tunnel(settings)}
  health                      http://127.0.0.1:{settings.health_port}/readyz
  metrics                     http://127.0.0.1:{settings.metrics_port}/metrics
  report intake               http://127.0.0.1:{settings.report_port}/log
  simulated bases             {f"base-1 to base-{bases}" if bases > 1 else "base" if bases else "none"}
  embedded cluster            {data_dir / "cluster.db"} (one machine, neither highly available nor Kubernetes)

Type next, in another terminal:
  {server}{mctl} get vnodes
  {server}{mctl} apply -f {manifest}
  {server}{mctl} wait --for=ready -f {manifest}
  {server}{mctl} get modules -o wide
  {server}{mctl} install biz2 --version 0.0.1 --url https://repo.example/biz2-0.0.1.jar --all
  {server}{mctl} events
  {server}{mctl} delete -f {manifest}

Ctrl-C ends everything; the cluster's objects are kept.
"""


def _tunnel(settings: QuickstartSettings) -> str:
    if not settings.enable_mqtt_tunnel:
        return f"  HTTP tunnel for bases       127.0.0.1:{settings.http_tunnel_listen_port}"
    where = f"{settings.mqtt_broker}:{settings.mqtt_port} (MQTT_BROKER, MQTT_PORT)"
    if runs_broker(settings):
        where = f"{BROKER_HOST}:{settings.mqtt_port} (for trying out only: no passwords, no TLS, nothing is kept)"
    topic = f"koupleless_{settings.env.lower()}/IDENTITY"
    return f"""\
  MQTT broker                 {where}
  topics from bases           {topic}/base/heart, health, simpleBiz, bizOperation, ...
  topics to bases             {topic}/installBiz, uninstallBiz, health, queryAllBiz"""


def _shown(path: Path) -> str:
    """Return how a file is named in a command that is typed in the current folder."""
    try:
        return shlex.quote(str(path.relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(path) if path.exists() else path.name)


def free_ports() -> dict[str, str]:
    """Return the variables of all ports on ones that are free now; all are held until all are chosen."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in _PORTS]
        return {name: str(one.getsockname()[1]) for name, one in zip(_PORTS, sockets, strict=True)}


async def smoke(settings: QuickstartSettings, stop: asyncio.Event, *, manifest: Path) -> None:
    """Run the main job once, and print one line; raises StartError, also when a step fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="module-controller-smoke-") as folder:
        supervisor = assembled(settings, bases=1, data_dir=Path(folder))
        running = asyncio.create_task(supervisor.run(stop))
        ready = asyncio.create_task(supervisor.ready.wait())
        try:
            await asyncio.wait({running, ready}, timeout=STEP_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
                raise StartError("stopped before it was done")
            if not ready.done():
                raise StartError(f"nothing was ready within {STEP_WITHIN} s")
            timings = [f"up {time.monotonic() - began:.1f} s"]
            file, timeout = ("-f", str(manifest)), ("--timeout", f"{STEP_WITHIN}s")
            for name, command in (
                ("base ready", ("wait", "--for=ready", "vnode/base", *timeout)),
                ("applied", ("apply", *file)),
                ("ready", ("wait", "--for=ready", *file, *timeout)),
                ("deleted", ("delete", *file)),
                ("gone", ("wait", "--for=gone", *file, *timeout)),
            ):
                timings.append(f"{name} {await _mctl(settings.grpc_port, *command):.2f} s")
        finally:
            ready.cancel()
            stop.set()
            await running
    say(f"smoke: ok: {', '.join(timings)}; in all {time.monotonic() - began:.1f} s")


async def _mctl(port: int, *arguments: str) -> float:
    """Run mctl and return the seconds it took; raises StartError with what it printed."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mctl", "--server", f"127.0.0.1:{port}", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(COMMAND_WITHIN):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise StartError(f"smoke: failed: mctl {' '.join(arguments)} hangs: killed") from None
    if process.returncode:
        text = output.decode(errors="replace").strip()
        raise StartError(f"smoke: failed: mctl {' '.join(arguments)} ended with {process.returncode}: {text}")
    return time.monotonic() - began
