"""Control of simulated bases while they run: a small HTTP interface for the loopback address.

Every request takes ?base=IDENTITY; without it, all bases are meant.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import orjson
from aiohttp import web

from simulatedbase.base import NoFreePort, SimulatedBase
from simulatedbase.fleet import Fleet, UnknownBase
from simulatedbase.mqtt.connection import BrokerUnavailable

HELP = """\
GET  /admin/bases           identity, port, connections, modules and switches of each base
GET  /admin/commands        commands received, oldest first: base, verb, body, at (monotonic seconds)
GET  /admin/history         what was inside after each change, oldest first: base, number, at, running, modules, note
POST /admin/deactivate      say DEACTIVATED to the controller, then stop
POST /admin/stop            stop in silence
POST /admin/start           start again after a stop
POST /admin/restart         stop and start, modules lost; ?port=N changes the port
POST /admin/mute            send no heartbeats; ?on=false sends them again
POST /admin/fail            let installations fail; ?module=NAME or NAME:VERSION, all without it
POST /admin/fail-uninstall  let uninstallations fail; ?module= as above
POST /admin/hang            accept and never answer; ?command=COMMAND, all without it
POST /admin/slow            delay by ?seconds=S; ?command=COMMAND, all without it
POST /admin/cut             lose the connection to the broker for ?seconds=S
POST /admin/drop-replies    carry out, then give no answer; ?command=COMMAND, all without it
POST /admin/heal            switch all of these faults off
All take ?base=IDENTITY; without it they mean every base.
"""

Change = Callable[[SimulatedBase, web.Request], Awaitable[None]]


def application(fleet: Fleet) -> web.Application:
    """Return the interface to fleet."""
    app = web.Application()

    def told(render: Callable[[SimulatedBase], list[object]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            return _json([item for base in _selected(fleet, request) for item in render(base)])

        return handle

    def changed(change: Change) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            bases = _selected(fleet, request)
            for base in bases:
                await change(base, request)
            return _json([_state(base) for base in bases])

        return handle

    async def usage(_request: web.Request) -> web.Response:
        return web.Response(text=HELP)

    app.router.add_get("/", usage)
    app.router.add_get("/admin", usage)
    app.router.add_get("/admin/bases", told(lambda base: [_state(base)]))
    app.router.add_get("/admin/commands", told(_commands))
    app.router.add_get("/admin/history", told(_history))
    for name, change in _CHANGES.items():
        app.router.add_post(f"/admin/{name}", changed(change))
    return app


async def _deactivate(base: SimulatedBase, _request: web.Request) -> None:
    await base.deactivate()


async def _stop(base: SimulatedBase, _request: web.Request) -> None:
    await base.stop()


async def _start(base: SimulatedBase, _request: web.Request) -> None:
    try:
        await base.start()
    except (NoFreePort, BrokerUnavailable) as error:
        raise web.HTTPConflict(text=f"{error}\n") from error


async def _restart(base: SimulatedBase, request: web.Request) -> None:
    port = request.query.get("port")
    if port is not None and not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise web.HTTPBadRequest(text=f"port={port}: not a port\n")
    try:
        await base.restart(None if port is None else int(port))
    except (NoFreePort, BrokerUnavailable) as error:
        raise web.HTTPConflict(text=f"{error}\n") from error


async def _mute(base: SimulatedBase, request: web.Request) -> None:
    on = request.query.get("on", "true")
    if on not in ("true", "false"):
        raise web.HTTPBadRequest(text=f"on={on}: true or false\n")
    base.faults.mute = on == "true"


async def _fail(base: SimulatedBase, request: web.Request) -> None:
    base.faults.fail_install.add(request.query.get("module", "*"))


async def _fail_uninstall(base: SimulatedBase, request: web.Request) -> None:
    base.faults.fail_uninstall.add(request.query.get("module", "*"))


async def _hang(base: SimulatedBase, request: web.Request) -> None:
    base.faults.hang.add(_command(request))


async def _slow(base: SimulatedBase, request: web.Request) -> None:
    base.faults.slow[_command(request)] = _seconds(request)


async def _cut(base: SimulatedBase, request: web.Request) -> None:
    base.cut(_seconds(request))


async def _drop_replies(base: SimulatedBase, request: web.Request) -> None:
    base.faults.drop_replies.add(_command(request))


async def _heal(base: SimulatedBase, _request: web.Request) -> None:
    base.faults.clear()


_CHANGES: dict[str, Change] = {
    "deactivate": _deactivate,
    "stop": _stop,
    "start": _start,
    "restart": _restart,
    "mute": _mute,
    "fail": _fail,
    "fail-uninstall": _fail_uninstall,
    "hang": _hang,
    "slow": _slow,
    "cut": _cut,
    "drop-replies": _drop_replies,
    "heal": _heal,
}


def _selected(fleet: Fleet, request: web.Request) -> list[SimulatedBase]:
    try:
        return fleet.select(request.query.get("base", ""))
    except UnknownBase as error:
        raise web.HTTPNotFound(text=f"no base {error}\n") from error


def _seconds(request: web.Request) -> float:
    try:
        seconds = float(request.query.get("seconds", ""))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise web.HTTPBadRequest(text="seconds: a number of seconds is needed\n")
    return seconds


def _command(request: web.Request) -> str:
    return request.query.get("command", "*")


def _state(base: SimulatedBase) -> object:
    return {
        "identity": base.identity,
        "port": base.port,
        "running": base.running,
        "connected": base.connected,
        "beating_over_mqtt": base.beating_over_mqtt,
        "modules": [{"name": biz.name, "version": biz.version, "state": biz.state.value} for biz in base.modules()],
        "counts": dict(base.counts),
        "faults": {
            "fail_install": sorted(base.faults.fail_install),
            "fail_uninstall": sorted(base.faults.fail_uninstall),
            "hang": sorted(base.faults.hang),
            "slow": dict(base.faults.slow),
            "drop_replies": sorted(base.faults.drop_replies),
            "mute": base.faults.mute,
        },
    }


def _commands(base: SimulatedBase) -> list[object]:
    return [
        {"base": base.identity, "verb": received.verb, "body": received.body, "at": received.at}
        for received in base.commands
    ]


def _history(base: SimulatedBase) -> list[object]:
    return [{"base": base.identity, **asdict(moment)} for moment in base.history]


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value) + b"\n", content_type="application/json")
