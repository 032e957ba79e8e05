"""All simulated bases of a measurement in one process, started on demand; it says when each began.

Besides the admin interface of simulated bases: POST /begin?ramp=S starts all bases over S seconds and returns the
monotonic time of each base's first heartbeat.
"""

import argparse
import asyncio
import sys
import time

import orjson
from aiohttp import web

from service import logs, process
from simulatedbase import admin
from simulatedbase.base import Fleet, SimulatedBase, profiles
from simulatedbase.profile import Profile

IDENTITY = "bench"


def begin(name: str, purpose: str | None) -> argparse.Namespace:
    """Return the options of a program that is bases, with its logs and limits set up; exits where they are wrong."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=purpose)
    parser.add_argument("--controller", required=True, help="URL of the HTTP gateway")
    parser.add_argument("--count", type=int, required=True, help="number of bases")
    parser.add_argument("--admin-port", type=int, required=True, help="loopback port that is listened on")
    options = parser.parse_args()
    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.WARNING, program="bases")
    process.raise_file_limit()
    return options


async def serve(app: web.Application, port: int, stop: asyncio.Event) -> None:
    """Serve on loopback until stop is set; raises OSError."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> int:
    """Run bases until a signal; returns the exit code."""
    options = begin("bases", __doc__)
    first = Profile(identity=IDENTITY, controller=options.controller)
    fleet = Fleet([SimulatedBase(profile) for profile in profiles(first, options.count)])

    async def life(stop: asyncio.Event) -> None:
        app = admin.application(fleet)
        app.router.add_post("/begin", lambda request: _begin(fleet, request))
        try:
            await serve(app, options.admin_port, stop)
        finally:
            await fleet.stop()

    return process.run(life)


async def _begin(fleet: Fleet, request: web.Request) -> web.Response:
    bases = fleet.bases()
    apart = float(request.query.get("ramp", "0")) / len(bases)
    began, times = time.monotonic(), {}
    for number, base in enumerate(bases):
        await asyncio.sleep(max(0.0, began + number * apart - time.monotonic()))
        times[base.identity] = time.monotonic()
        await base.start()
    return web.Response(body=orjson.dumps(times), content_type="application/json")


if __name__ == "__main__":
    sys.exit(main())
