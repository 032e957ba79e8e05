"""Everything on one machine: embedded cluster, control plane, a gateway and simulated bases."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

import aiohttp

from modulecontroller import broker
from modulecontroller.children import Program
from modulecontroller.settings import QuickstartSettings
from modulecontroller.supervisor import supervise
from service.folders import state_folder
from service.process import StartError

DEFAULT_BASES = 2
MOST_BASES = 1000
_PORTS_OF_ARKLET = 100

_EMBEDDED_BROKER = {
    "MQTT_BROKER": broker.HOST,
    **dict.fromkeys(
        ("MQTT_USERNAME", "MQTT_PASSWORD", "MQTT_CA_PATH", "MQTT_CLIENT_CRT_PATH", "MQTT_CLIENT_KEY_PATH"), ""
    ),
}
"""How children reach the broker that we run; an empty variable counts as not set."""

Say = Callable[[str], None]

PROGRESS_EVERY = 3.0
"""Seconds between two lines that say what is still waited for."""


def default_data_dir() -> Path:
    """Return where the quick start keeps its cluster when nothing else is said."""
    return state_folder() / "quickstart"


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
    over_http = ("--controller", f"http://127.0.0.1:{settings.http_port}", *ports)
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
    """Tell whether a broker is to be run, too."""
    return settings.enable_mqtt_tunnel and not settings.mqtt_broker


def embedded_broker(settings: QuickstartSettings) -> Program:
    """Return the program that is the broker; raises StartError when its package is missing."""
    if not broker.available():
        raise StartError(
            "--mqtt without MQTT_BROKER runs a broker by itself, and the Python package amqtt is not installed: "
            "install it (pip install 'koupleless-module-controller[broker]'), or name a broker with MQTT_BROKER"
        )
    return Program("broker", "modulecontroller.broker", {"MQTT_PORT": str(settings.mqtt_port)})


async def quickstart(
    settings: QuickstartSettings,
    stop: asyncio.Event,
    *,
    bases: int,
    mqtt: bool = False,
    data_dir: Path,
    say: Say,
    when_ready: Callable[[], None] | None = None,
) -> None:
    """Run everything until stop is set, and say what runs where once it does. Raises StartError."""
    prepare(data_dir)
    settings = settings.model_copy(
        update={
            "enable_http_tunnel": not mqtt,
            "enable_mqtt_tunnel": mqtt,
            "client_id": "quickstart",
            "status_host": "127.0.0.1",
        }
    )
    parts = [
        *(["MQTT broker"] if runs_broker(settings) else []),
        *("embedded cluster", "control plane", f"{'MQTT' if mqtt else 'HTTP'} gateway"),
    ]
    say(f"starting: {', '.join(parts)} and {bases} simulated bases")
    ready = asyncio.Event()
    running = supervise(
        settings,
        stop,
        extra=environ(settings, data_dir),
        before=[embedded_broker(settings)] if runs_broker(settings) else [],
        more=[simulated_bases(settings, bases)] if bases else [],
        ready=ready,
    )

    async def tell() -> None:
        await until_ready(ready, lambda: _trouble(settings.health_port), say)
        say(welcome(settings, bases, data_dir))
        if when_ready is not None:
            when_ready()

    def cannot_tell(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            stop.set()  # nobody can be told any more: all ends, in order

    telling = asyncio.create_task(tell(), name="tell")
    telling.add_done_callback(cannot_tell)
    try:
        await running
    finally:
        telling.cancel()
        await asyncio.wait({telling})
    if not telling.cancelled():
        telling.result()
    say("ended")


async def until_ready(ready: asyncio.Event, trouble: Callable[[], Awaitable[str]], say: Say) -> None:
    """Say every few seconds what is not ready yet, as trouble tells it, until all is."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not ready.is_set():
        try:
            async with asyncio.timeout(PROGRESS_EVERY):
                await ready.wait()
        except TimeoutError:
            say(f"{loop.time() - began:5.0f} s  {await trouble()}")


async def _trouble(health_port: int) -> str:
    """Return what our own /readyz says in one line."""
    url = f"http://127.0.0.1:{health_port}/readyz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session,
            session.get(url) as response,
        ):
            text = await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return "still starting"
    return "; ".join(text.split("\n")).strip("; ")


def prepare(data_dir: Path) -> None:
    """Make the data folder; raises StartError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"--data-dir {data_dir}: {error.strerror}; name a folder that can be written") from error


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
        return f"  HTTP tunnel for bases       127.0.0.1:{settings.http_port}"
    topic = f"koupleless_{settings.env.lower()}/IDENTITY"
    if runs_broker(settings):
        where = f"{broker.HOST}:{settings.mqtt_port} (for trying out only: no passwords, no TLS, nothing is kept)"
    else:
        where = f"{settings.mqtt_broker}:{settings.mqtt_port} (MQTT_BROKER, MQTT_PORT)"
    return "\n".join(
        (
            f"  MQTT broker                 {where}",
            f"  topics from bases           {topic}/base/heart, health, simpleBiz, bizOperation, ...",
            f"  topics to bases             {topic}/installBiz, uninstallBiz, health, queryAllBiz",
        )
    )


def _shown(path: Path) -> str:
    """Return how a file is named in a command that is typed in the current folder."""
    try:
        return shlex.quote(str(path.relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(path) if path.exists() else path.name)
