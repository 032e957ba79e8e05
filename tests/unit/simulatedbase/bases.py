"""A base without a server, read back with the codecs that gateways use."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, payloads
from gateways.arklet.commands import COMMANDS
from gateways.arklet.fields import Json, first_object
from simulatedbase import fastjson
from simulatedbase.arklet import Arklet
from simulatedbase.java import JavaError
from simulatedbase.life import Life
from simulatedbase.profile import Faults, Profile

BIZ1 = pb.OrderModule(name="biz1", version="0.0.1", url="https://repo.example/biz1.jar")
BIZ2 = pb.OrderModule(name="biz2", version="0.0.1", url="https://repo.example/biz2.jar")


def module_order(
    name: str,
    version: str,
    url: str = "",
    strategy: pb.InstallStrategy.ValueType = pb.INSTALL_STRATEGY_UNSPECIFIED,
) -> pb.OrderModule:
    return pb.OrderModule(name=name, version=version, url=url, strategy=strategy)


class Base:
    """An arklet without a server; bodies go in and out as bytes."""

    def __init__(self, faults: Faults | None = None, **profile: Any) -> None:
        self.faults = faults or Faults()
        self.life = Life(
            Profile(identity="10.0.0.7", name="shop-base", **profile),
            self.faults,
            clock=lambda: (1_700_000_000_000 + round(asyncio.get_running_loop().time() * 1000)) * 1_000_000,
        )
        self.arklet = Arklet(self.life)

    async def send(self, command: str, parameters: Json | None) -> bytes:
        answer = await self.arklet.execute(command, parameters)
        return orjson.dumps(fastjson.internal_error(answer) if isinstance(answer, JavaError) else answer)

    async def ask(self, verb: pb.Verb.ValueType, *modules: pb.OrderModule) -> bytes:
        return await self.send(COMMANDS[verb], first_object(commands.body(verb, modules)))

    async def reply(self, verb: pb.Verb.ValueType, *modules: pb.OrderModule) -> pb.Reply:
        return payloads.reply(first_object(await self.ask(verb, *modules)))

    async def modules(self) -> Sequence[pb.Module]:
        return payloads.modules(first_object(await self.ask(pb.VERB_QUERY_MODULES))).modules

    async def states(self) -> dict[tuple[str, str], int]:
        return {(module.name, module.version): module.state for module in await self.modules()}
