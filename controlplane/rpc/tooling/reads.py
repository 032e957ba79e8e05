"""The lists that tools read, of all replicas; where an owner cannot be asked, what the cluster shows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.gateways import GatewayDirectory
from controlplane.app.roster import Roster
from controlplane.app.tooling.refusals import RequestError
from controlplane.domain.workloads.placement import matches, parse_selector
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.events import Events
from controlplane.rpc.tooling.index import Entry, Index
from controlplane.rpc.tooling.replicas import ReplicaLinks

PAGE = 500
MOST_IN_PAGE = 1000

T = TypeVar("T")


def page(items: Iterable[T], key: Callable[[T], str], size: int, token: str) -> tuple[list[T], str]:
    """Return the page after token, and the next token; items come by key, ascending. Raises RequestError.

    The token is the last key sent, so that items that come or go between pages disturb nothing.
    """
    if size > MOST_IN_PAGE:
        raise RequestError(f"page_size is at most {MOST_IN_PAGE}", "page_size")
    found: list[T] = []
    for item in items:
        if key(item) <= token:
            continue
        if len(found) == (size or PAGE):
            return found, key(found[-1])
        found.append(item)
    return found, ""


def chosen(entry: Entry, request: pb.ListModulesRequest | pb.WatchModulesRequest) -> Iterator[pb.Module]:
    """Iterate over the modules of a VNode that a request asks for."""
    for module in entry.modules:
        if request.name in ("", module.name) and request.management in (0, module.management):
            yield module


@dataclass(frozen=True, slots=True)
class Reads:
    """Answers reads; within bounds the seconds for other replicas. Every method raises RequestError, Missing."""

    index: Index
    links: ReplicaLinks
    events: Events
    directory: GatewayDirectory
    roster: Roster

    async def vnodes(self, request: pb.ListVNodesRequest, within: float) -> pb.ListVNodesResponse:
        """List VNodes by name."""
        selector = parse_selector(request.selector)
        await self.links.sync(within)
        entries = (entry for entry in self._entries(request.page_token) if matches(selector, entry.vnode.labels))
        items, token = page(entries, lambda entry: entry.vnode.name, request.page_size, request.page_token)
        return pb.ListVNodesResponse(
            items=map(self.index.lively, items),
            next_page_token=token,
            unreachable_replicas=self.links.unreachable(),
        )

    async def vnode(self, request: pb.GetVNodeRequest, within: float) -> pb.GetVNodeResponse:
        """Get one VNode with its modules and recent events."""
        await self.links.sync(within)
        entry = self.index.find(request.name)
        name = entry.vnode.name
        return pb.GetVNodeResponse(
            vnode=self.index.lively(entry),
            modules=entry.modules,
            events=self.events.recent(name),
            unreachable_replicas=self.links.unreachable(name),
        )

    async def modules(self, request: pb.ListModulesRequest, within: float) -> pb.ListModulesResponse:
        """List modules by VNode, name and version."""
        await self.links.sync(within)
        vnode = self.index.find(request.vnode).vnode.name if request.vnode else ""
        modules = (one for entry in self._entries(request.page_token, vnode) for one in chosen(entry, request))
        items, token = page(modules, codec.module_key, request.page_size, request.page_token)
        return pb.ListModulesResponse(
            items=items, next_page_token=token, unreachable_replicas=self.links.unreachable(vnode)
        )

    async def operations(self, request: pb.ListOperationsRequest, within: float) -> pb.ListOperationsResponse:
        """List the last operations on modules by VNode and time."""
        await self.links.sync(within)
        vnode = self.index.find(request.vnode).vnode.name if request.vnode else ""
        operations = (
            one
            for entry in self._entries(request.page_token, vnode)
            for one in sorted(entry.operations, key=_operation_key)
            if request.name in ("", one.name)
        )
        items, token = page(operations, _operation_key, request.page_size, request.page_token)
        return pb.ListOperationsResponse(
            items=items, next_page_token=token, unreachable_replicas=self.links.unreachable(vnode)
        )

    async def gateways(self, within: float) -> pb.ListGatewaysResponse:
        """List the connected gateways by id."""
        await self.links.sync(within)
        found = (*codec.gateways(self.directory, self.roster), *self.links.gateways())
        return pb.ListGatewaysResponse(items=codec.merged_gateways(found), unreachable_replicas=self.links.silent())

    def _entries(self, token: str = "", vnode: str = "") -> Iterator[Entry]:
        """Iterate over the entries by name, from the VNode of a page token on."""
        entries = self.index.entries()
        names = [vnode] if vnode else self.index.names(token.partition("\n")[0])
        return (entries[name] for name in names if name in entries)


def _operation_key(operation: pb.PastOperation) -> str:
    at = operation.time
    return f"{operation.vnode}\n{at.seconds:011d}.{at.nanos:09d}\n{operation.name}:{operation.version}"
