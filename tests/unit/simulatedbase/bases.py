"""A base without a server, read back with the codecs that gateways use."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateways.arklet import commands, payloads
from gateways.arklet.facts import ModuleOrder, ModuleState, Reply, Verb
from gateways.arklet.fields import Json, first_object
from simulatedbase import fastjson
from simulatedbase.arklet import Arklet
from simulatedbase.java import JavaError
from simulatedbase.life import Journal, Life
from simulatedbase.profile import Faults, Profile

BIZ1 = ModuleOrder("biz1", "0.0.1", "https://repo.example/biz1.jar")
BIZ2 = ModuleOrder("biz2", "0.0.1", "https://repo.example/biz2.jar")


class Base:
    """An arklet without a server; bodies go in and out as bytes."""

    def __init__(self, faults: Faults | None = None, **profile: Any) -> None:
        self.faults = faults or Faults()
        self.life = Life(
            Profile(identity="10.0.0.7", name="shop-base", **profile),
            self.faults,
            Journal(),
            clock=lambda: (1_700_000_000_000 + round(asyncio.get_running_loop().time() * 1000)) * 1_000_000,
        )
        self.arklet = Arklet(self.life)

    async def send(self, command: str, parameters: Json | None) -> bytes:
        answer = await self.arklet.execute(command, parameters)
        return orjson.dumps(fastjson.internal_error(answer) if isinstance(answer, JavaError) else answer)

    async def ask(self, verb: Verb, *modules: ModuleOrder) -> bytes:
        return await self.send(verb.value, first_object(commands.body(verb, modules)))

    async def reply(self, verb: Verb, *modules: ModuleOrder) -> Reply:
        return payloads.reply(await self.ask(verb, *modules))

    async def states(self) -> dict[tuple[str, str], ModuleState]:
        told = payloads.modules(await self.ask(Verb.QUERY_MODULES))
        return {(module.name, module.version): module.state for module in told}
