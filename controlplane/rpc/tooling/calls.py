"""What the calls of ModuleControllerService have in common. Groups of calls build on it, each in a module."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc

from controlplane.access.authenticator import Authenticator
from controlplane.app.tooling.refusals import RequestError
from controlplane.app.tooling.vnodes import VNodes
from controlplane.app.turns import Turns
from controlplane.domain.identity import VNodeName
from controlplane.domain.workloads.placement import parse_selector
from controlplane.rpc.refusals import Context, refusing
from controlplane.rpc.tooling import moduleurls
from controlplane.rpc.tooling.audit import Audit
from controlplane.rpc.tooling.events import Events
from controlplane.rpc.tooling.index import Index
from controlplane.rpc.tooling.replicas import SYNC_WITHIN, ReplicaLinks

PAGE = 500
MOST_IN_PAGE = 1000

T = TypeVar("T")
M = TypeVar("M", bound=Message)
M_contra = TypeVar("M_contra", bound=Message, contravariant=True)


class Items(Protocol[M_contra]):
    """The items of an answer."""

    def append(self, value: M_contra, /) -> None:
        """Add a copy of a message."""


@dataclass(eq=False, kw_only=True)
class Calls(module_controller_pb2_grpc.ModuleControllerServiceServicer):
    """Answers calls with the entries of all replicas."""

    index: Index
    links: ReplicaLinks
    vnodes: VNodes
    events: Events
    authenticator: Authenticator
    audit: Audit

    @asynccontextmanager
    async def answering(self, context: Context, *, changes: bool = False) -> AsyncIterator[None]:
        """Turn what goes wrong into statuses, the end of the replica too; what was changed is answered even then."""
        async with refusing(context):
            self.index.go_on()
            yield
            if not changes:
                self.index.go_on()

    async def sync(self, context: Context) -> None:
        """Have the other replicas send what is so now, in half of the call's time at most."""
        remaining = context.time_remaining()
        await self.links.sync(SYNC_WITHIN if remaining is None else min(SYNC_WITHIN, max(remaining, 0.0) / 2))

    async def found(self, vnode: str) -> str:
        """Have the entries be as all is now; return the Node name of the VNode that a request names.

        It is empty when it names none. Raises Missing.
        """
        await self.index.entries()
        return self.index.find(vnode).vnode.name if vnode else ""

    async def shown(
        self,
        modules: Iterable[pb.Module],
        request: pb.GetVNodeRequest | pb.ListModulesRequest | pb.WatchModulesRequest,
    ) -> Iterable[pb.Module]:
        """Return modules as the caller asks for them and may see them: their URLs masked, or as they are."""
        if not request.show_secrets:
            return modules
        return await moduleurls.shown(modules, self.vnodes.cluster, self.authenticator)

    def targets(self, target: pb.Target) -> list[VNodeName]:
        """Return the VNodes that are meant. Raises RequestError, Missing."""
        match target.WhichOneof("target"):
            case "base":
                return [self.vnodes.named(target.base, self.vnodes.names())]
            case "selector":
                return self.vnodes.matching(parse_selector(target.selector))
            case "all" if target.all:
                return self.vnodes.matching()
            case _:
                raise RequestError("a target is needed: base, selector or all", "target")


async def page(items: AsyncGenerator[T, None], key: Callable[[T], str], size: int, token: str) -> tuple[list[T], str]:
    """Return the page after token, and the next token; items come by key, ascending. Raises RequestError.

    The token is the last key sent, so that items that come or go between pages disturb nothing.
    """
    if size > MOST_IN_PAGE:
        raise RequestError(f"page_size is at most {MOST_IN_PAGE}", "page_size")
    found: list[T] = []
    async with aclosing(items):
        async for item in items:
            if key(item) <= token:
                continue
            if len(found) == (size or PAGE):
                return found, key(found[-1])
            found.append(item)
    return found, ""


async def fill(answer: Items[M], items: Iterable[M]) -> None:
    """Copy items into an answer, in turns."""
    turns = Turns()
    for item in items:
        answer.append(item)
        await turns.handled()
