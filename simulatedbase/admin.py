"""Control of simulated bases while they run: a small HTTP interface for the loopback address."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from service.process import StartError
from service.wording import plain
from simulatedbase.base import Fleet, SimulatedBase
from simulatedbase.profile import ALL, Port, Seconds

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
POST /admin/heal            switch all of these faults off; commands that are slow go on at once
All take ?base=IDENTITY; without it they mean every base.
"""


class Query(BaseModel):
    """What may stand behind the path of a change."""

    port: Port | None = None
    on: bool = True
    module: str = ALL
    command: str = ALL
    seconds: Seconds | None = None

    def duration(self) -> float:
        """Return the seconds; raises ValueError when there are none."""
        if self.seconds is None:
            raise ValueError("seconds: a number of seconds is needed")
        return self.seconds


_LOOKS: Mapping[str, Callable[[SimulatedBase], list[object]]] = {
    "bases": lambda base: [_state(base)],
    "commands": lambda base: [{"base": base.identity, **asdict(received)} for received in base.commands],
    "history": lambda base: [{"base": base.identity, **asdict(moment)} for moment in base.history],
}
_CHANGES: Mapping[str, Callable[[SimulatedBase, Query], Awaitable[None] | None]] = {
    "deactivate": lambda base, _: base.deactivate(),
    "stop": lambda base, _: base.stop(),
    "start": lambda base, _: base.start(),
    "restart": lambda base, query: base.restart(query.port),
    "mute": lambda base, query: setattr(base.faults, "mute", query.on),
    "fail": lambda base, query: base.faults.fail_install.add(query.module),
    "fail-uninstall": lambda base, query: base.faults.fail_uninstall.add(query.module),
    "hang": lambda base, query: base.faults.hang.add(query.command),
    "slow": lambda base, query: base.faults.slow.update({query.command: query.duration()}),
    "cut": lambda base, query: base.cut(query.duration()),
    "drop-replies": lambda base, query: base.faults.drop_replies.add(query.command),
    "heal": lambda base, _: base.faults.clear(),
}


def application(fleet: Fleet) -> web.Application:
    """Return the interface to fleet."""

    async def usage(_request: web.Request) -> web.Response:
        return web.Response(text=HELP)

    async def look(name: str, request: web.Request) -> web.Response:
        return _json([item for base in _selected(fleet, request) for item in _LOOKS[name](base)])

    async def change(name: str, request: web.Request) -> web.Response:
        bases = _selected(fleet, request)
        try:
            query = Query.model_validate(dict(request.query))
            for base in bases:
                done = _CHANGES[name](base, query)
                if done is not None:
                    await done
        except ValidationError as error:
            wrong = error.errors()[0]
            raise web.HTTPBadRequest(text=f"{wrong['loc'][0]}={wrong['input']}: {plain(wrong['msg'])}\n") from error
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        except StartError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return _json([_state(base) for base in bases])

    app = web.Application()
    app.router.add_get("/", usage)
    app.router.add_get("/admin", usage)
    for name in _LOOKS:
        app.router.add_get(f"/admin/{name}", partial(look, name))
    for name in _CHANGES:
        app.router.add_post(f"/admin/{name}", partial(change, name))
    return app


def _state(base: SimulatedBase) -> object:
    faults = base.faults.model_dump()
    return {
        "identity": base.identity,
        "port": base.port,
        "running": base.running,
        "connected": base.connected,
        "beating_over_mqtt": base.heartbeats_over_mqtt,
        "modules": [{"name": biz.name, "version": biz.version, "state": biz.state.value} for biz in base.modules()],
        "counts": dict(base.counts),
        "faults": {name: sorted(value) if isinstance(value, set) else value for name, value in faults.items()},
    }


def _selected(fleet: Fleet, request: web.Request) -> list[SimulatedBase]:
    identity = request.query.get("base", "")
    try:
        return fleet.select(identity)
    except KeyError:
        raise web.HTTPNotFound(text=f"no base {identity}\n") from None


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value) + b"\n", content_type="application/json")
