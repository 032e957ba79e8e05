"""The life of the simulated-base program."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from aiohttp import web

from service import logs, output, process
from simulatedbase import admin
from simulatedbase.base import NoFreePort, SimulatedBase
from simulatedbase.fleet import Fleet, profiles
from simulatedbase.mqtt.connection import BrokerUnavailable
from simulatedbase.options import faults, parse, profile
from simulatedbase.profile import Tunnel


def main(argv: Sequence[str] | None = None) -> int:
    """Run bases until a signal; returns the exit code."""
    return output.run("simulated-base", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = parse(argv)
    logs.configure(logs.LogFormat(options.log_format), logs.LogLevel(options.log_level), program="simulated-base")
    fleet = Fleet([SimulatedBase(each, faults(options)) for each in profiles(profile(options), options.count)])

    async def life(stop: asyncio.Event) -> None:
        runner = web.AppRunner(admin.application(fleet), access_log=None, shutdown_timeout=1.0)
        try:
            await _start(fleet, runner, options, stop)
            await stop.wait()
        finally:
            await runner.cleanup()
            await fleet.stop()

    return process.run(life)


async def _start(fleet: Fleet, runner: web.AppRunner, options: argparse.Namespace, stop: asyncio.Event) -> None:
    if options.admin_port is not None:
        await _listen(runner, options.admin_port)
    starting = asyncio.create_task(fleet.start(options.ramp, _announce))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    except NoFreePort as error:
        raise process.StartError(f"{error}; choose others with --port, or --port 0 for any free ones") from error
    except BrokerUnavailable as error:
        raise process.StartError(
            f"{error}; is it there, and are --broker, --mqtt-port and the credentials right?"
        ) from error
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.wait((starting, stopping))


async def _listen(runner: web.AppRunner, port: int) -> None:
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    except OSError as error:
        raise process.StartError(
            f"--admin-port {port}: cannot listen there ({error.strerror}); choose another, or 0 for any free one"
        ) from error
    _say(f"admin listening on 127.0.0.1:{runner.addresses[0][1]}")


def _announce(base: SimulatedBase) -> None:
    profile = base.profile
    if profile.tunnel is not Tunnel.MQTT:
        _say(f"{base.identity} listening on {_address(profile.listen, base.port)}")
    if profile.broker is not None and profile.tunnel is not Tunnel.HTTP:
        _say(f"{base.identity} connected to {_address(profile.broker.host, profile.broker.port)}")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
