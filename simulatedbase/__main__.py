"""The simulated-base program."""

import asyncio
import sys
from collections.abc import Sequence

from aiohttp import web

from service import logs, output, process
from service.listening import host_port
from simulatedbase import admin
from simulatedbase.base import Fleet, SimulatedBase, profiles
from simulatedbase.options import Options
from simulatedbase.profile import Tunnel


def main(argv: Sequence[str] | None = None) -> int:
    """Run bases until a signal; returns the exit code."""
    return output.run("simulated-base", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = Options(argv)
    run = options.run
    logs.configure(run.log_format, run.log_level, program="simulated-base")
    fleet = Fleet([SimulatedBase(profile, options.faults()) for profile in profiles(options.profile, run.count)])

    async def life(stop: asyncio.Event) -> None:
        runner = web.AppRunner(admin.application(fleet), access_log=None, shutdown_timeout=1.0)
        try:
            if run.admin_port is not None:
                await _listen(runner, run.admin_port)
            async with asyncio.TaskGroup() as group:
                starting = group.create_task(fleet.start(run.ramp, _announce))
                await stop.wait()
                starting.cancel()
        finally:
            await runner.cleanup()
            await fleet.stop()

    return process.run(life)


async def _listen(runner: web.AppRunner, port: int) -> None:
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    except OSError as error:
        fix = "choose another, or 0 for any free one"
        raise process.StartError(f"--admin-port {port}: cannot listen there ({error.strerror}); {fix}") from error
    _say(f"admin listening on 127.0.0.1:{runner.addresses[0][1]}")


def _announce(base: SimulatedBase) -> None:
    profile = base.profile
    if profile.tunnel is not Tunnel.MQTT:
        _say(f"{base.identity} listening on {host_port(profile.listen, base.port)}")
    if profile.broker is not None and profile.tunnel is not Tunnel.HTTP:
        _say(f"{base.identity} connected to {host_port(profile.broker.broker, profile.broker.port)}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
