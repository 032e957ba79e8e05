"""The lists that tools read, of all replicas; where an owner cannot be asked, what the cluster shows."""

from collections.abc import Iterator
from dataclasses import dataclass

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.gateways import GatewayDirectory
from controlplane.domain.workloads.placement import matches, parse_selector
from controlplane.rpc.refusals import Context
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.calls import Calls, page
from controlplane.rpc.tooling.index import Entry


@dataclass(eq=False, kw_only=True)
class Reads(Calls):
    """Answers lists, and questions for one VNode."""

    gateways: GatewayDirectory

    async def ListVNodes(self, request: pb.ListVNodesRequest, context: Context) -> pb.ListVNodesResponse:
        """List VNodes by name."""
        async with self.answering(context):
            selector = parse_selector(request.selector)
            await self.sync(context)
            entries = (entry for entry in self._entries(request.page_token) if matches(selector, entry.vnode.labels))
            items, token = page(entries, lambda entry: entry.vnode.name, request.page_size, request.page_token)
            return pb.ListVNodesResponse(
                items=map(self.index.lively, items),
                next_page_token=token,
                unreachable_replicas=self.links.unreachable(),
            )

    async def GetVNode(self, request: pb.GetVNodeRequest, context: Context) -> pb.GetVNodeResponse:
        """Get one VNode with its modules and recent events."""
        async with self.answering(context):
            await self.sync(context)
            entry = self.index.find(request.name)
            name = entry.vnode.name
            return pb.GetVNodeResponse(
                vnode=self.index.lively(entry),
                modules=await self.shown(entry.modules, request),
                events=self.events.recent(name),
                unreachable_replicas=self.links.unreachable(name),
            )

    async def ListModules(self, request: pb.ListModulesRequest, context: Context) -> pb.ListModulesResponse:
        """List modules by VNode, name and version."""
        async with self.answering(context):
            await self.sync(context)
            vnode = self.found(request.vnode)
            modules = (one for entry in self._entries(request.page_token, vnode) for one in entry.chosen(request))
            items, token = page(modules, codec.module_key, request.page_size, request.page_token)
            return pb.ListModulesResponse(
                items=await self.shown(items, request),
                next_page_token=token,
                unreachable_replicas=self.links.unreachable(vnode),
            )

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        """List the last operations on modules by VNode and time."""
        async with self.answering(context):
            await self.sync(context)
            vnode = self.found(request.vnode)
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

    async def ListGateways(self, request: pb.ListGatewaysRequest, context: Context) -> pb.ListGatewaysResponse:
        """List the connected gateways by id."""
        async with self.answering(context):
            await self.sync(context)
            found = (*codec.gateways(self.gateways, self.vnodes.roster), *self.links.gateways())
            return pb.ListGatewaysResponse(items=codec.merged_gateways(found), unreachable_replicas=self.links.silent())

    def _entries(self, token: str = "", vnode: str = "") -> Iterator[Entry]:
        """Iterate over the entries by name, from the VNode of a page token on."""
        entries = self.index.entries()
        names = [vnode] if vnode else self.index.names(token.partition("\n")[0])
        return (entries[name] for name in names if name in entries)


def _operation_key(operation: pb.PastOperation) -> str:
    at = operation.time
    return f"{operation.vnode}\n{at.seconds:011d}.{at.nanos:09d}\n{operation.name}:{operation.version}"
