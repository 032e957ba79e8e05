"""A control plane's gRPC server with a servicer of the test behind its guard."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc as pb_grpc

from controlplane.access.authenticator import Authenticator
from controlplane.access.refusals import Unauthenticated
from controlplane.access.reviews import Reviewer
from controlplane.domain.access import Access, Caller
from controlplane.rpc.access.guard import CALLER, Circle, Guard
from controlplane.rpc.access.places import Places
from controlplane.rpc.access.rules import LARGE

AUDIENCE = "ours"
TOKENS = {
    ("ann", ""): Caller("ann"),
    ("ben", ""): Caller("ben"),
    ("meant-for-others", "others"): Caller("eve"),
}
"""Who holds which token, by token and audience."""


class Reviews:
    """Knows the tokens above; ann may do everything, and others nothing."""

    def __init__(self) -> None:
        self.asked: list[Access] = []

    async def whose(self, token: str, *, audience: str = "", peer: str = "") -> Caller:
        assert peer == "127.0.0.1"
        if (token, audience) not in TOKENS:
            raise Unauthenticated("token", "the API server does not know this bearer token")
        return TOKENS[token, audience]

    async def may(self, caller: Caller, access: Access) -> bool:
        self.asked.append(access)
        return caller.user == "ann"


class Servicer(pb_grpc.ModuleControllerServiceServicer):
    """Answers calls of tools, and notes who called."""

    def __init__(self) -> None:
        self.callers: list[str] = []
        self.go = asyncio.Event()
        self.go.set()

    async def ListVNodes(self, _request: Any, _context: Any) -> pb.ListVNodesResponse:
        self.callers.append(CALLER.get().user)
        await self.go.wait()
        return pb.ListVNodesResponse(next_page_token="served")

    async def ApplyManifest(self, _request: Any, _context: Any) -> pb.ApplyManifestResponse:
        self.callers.append(CALLER.get().user)
        await self.go.wait()
        return pb.ApplyManifestResponse()

    async def WatchVNodes(self, _request: Any, _context: Any) -> AsyncIterator[pb.WatchVNodesResponse]:
        self.callers.append(CALLER.get().user)
        while True:
            yield pb.WatchVNodesResponse()
            await asyncio.sleep(0.05)


@dataclass
class Scene:
    """The server, its servicer, and where it listens."""

    servicer: Servicer
    reviews: Reviews
    guard: Guard
    port: int
    _channels: list[aio.Channel] = field(default_factory=list)

    def channel(self, credentials: grpc.ChannelCredentials | None = None, port: int = 0) -> aio.Channel:
        address = f"127.0.0.1:{port or self.port}"
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "module-controller")]
        if credentials is None:
            self._channels.append(aio.insecure_channel(address, options=options))
        else:
            self._channels.append(aio.secure_channel(address, credentials, options=options))
        return self._channels[-1]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


@asynccontextmanager
async def serving(
    *,
    servicer: Servicer | None = None,
    places: Places | None = None,
    listen: Callable[[aio.Server], int] = lambda server: server.add_insecure_port("127.0.0.1:0"),
) -> AsyncIterator[Scene]:
    """Serve behind a guard."""
    reviews, servicer = Reviews(), servicer or Servicer()  # type: ignore[abstract]
    reviewer: Reviewer = reviews  # type: ignore[assignment]
    guard = Guard(Authenticator(None, reviewer), Circle(AUDIENCE, "n"), places or Places())
    server = aio.server(interceptors=[guard], options=[("grpc.max_receive_message_length", LARGE)])
    pb_grpc.add_ModuleControllerServiceServicer_to_server(servicer, server)
    scene = Scene(servicer, reviews, guard, listen(server))
    await server.start()
    try:
        yield scene
    finally:
        await scene.close()
        await server.stop(None)
