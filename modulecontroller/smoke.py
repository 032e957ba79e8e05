"""The quick start without a person: everything up on free ports, one module in and out, one line of timings."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from modulecontroller.quickstart import quickstart
from modulecontroller.settings import QuickstartSettings
from service.process import StartError

STEP_WITHIN = 60
COMMAND_WITHIN = 90
"""Seconds after which a command that should have given up by itself is killed."""


class SmokeFailed(StartError):
    """A step of the smoke test failed."""


def free_ports(number: int) -> list[int]:
    """Return ports that are free now; all are held until all are chosen, so that none comes twice."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def on_free_ports() -> tuple[QuickstartSettings, dict[str, str]]:
    """Return settings on free ports, and the variables that give them to children."""
    names = ("GRPC_PORT", "HTTP_TUNNEL_LISTEN_PORT", "HEALTH_PORT", "METRICS_PORT", "REPORT_PORT", "MQTT_PORT")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return QuickstartSettings.model_validate(ports), {name: str(port) for name, port in ports.items()}


async def smoke(stop: asyncio.Event, *, manifest: Path, settings: QuickstartSettings, mqtt: bool = False) -> None:
    """Run the main job once, over HTTP or MQTT, and print one line; raises SmokeFailed, StartError."""
    began = time.monotonic()
    ready = asyncio.Event()
    timings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="module-controller-smoke-") as folder:
        running = asyncio.create_task(
            quickstart(
                settings,
                stop,
                bases=1,
                mqtt=mqtt,
                data_dir=Path(folder),
                say=lambda _text: None,
                when_ready=ready.set,
            )
        )
        try:
            await _first(running, ready, stop)
            timings.append(f"up {time.monotonic() - began:.1f} s")
            mctl = _Mctl(settings.grpc_port)
            for name, arguments in (
                ("base ready", ("wait", "--for=ready", "vnode/base", "--timeout", f"{STEP_WITHIN}s")),
                ("applied", ("apply", "-f", str(manifest))),
                ("ready", ("wait", "--for=ready", "-f", str(manifest), "--timeout", f"{STEP_WITHIN}s")),
                ("deleted", ("delete", "-f", str(manifest))),
                ("gone", ("wait", "--for=gone", "-f", str(manifest), "--timeout", f"{STEP_WITHIN}s")),
            ):
                timings.append(f"{name} {await mctl.run(*arguments):.2f} s")
        finally:
            stop.set()
            await running
    sys.stdout.write(f"smoke: ok: {', '.join(timings)}; in all {time.monotonic() - began:.1f} s\n")


async def _first(running: asyncio.Task[None], ready: asyncio.Event, stop: asyncio.Event) -> None:
    waits = {asyncio.create_task(ready.wait()), asyncio.create_task(stop.wait())}
    await asyncio.wait({running, *waits}, timeout=STEP_WITHIN, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if running.done():
        await running
    if stop.is_set():
        raise SmokeFailed("stopped before it was done")
    if not ready.is_set():
        raise SmokeFailed(f"nothing was ready within {STEP_WITHIN} s")


class _Mctl:
    def __init__(self, port: int) -> None:
        self._server = f"127.0.0.1:{port}"

    async def run(self, *arguments: str) -> float:
        """Run mctl and return the seconds it took; raises SmokeFailed with what it printed."""
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mctl",
            "--server",
            self._server,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(COMMAND_WITHIN):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            raise SmokeFailed(f"smoke: failed: mctl {' '.join(arguments)} hangs: killed") from None
        if process.returncode:
            text = output.decode(errors="replace").strip()
            raise SmokeFailed(f"smoke: failed: mctl {' '.join(arguments)} ended with {process.returncode}: {text}")
        return time.monotonic() - began
