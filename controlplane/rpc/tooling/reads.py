"""The lists that tools read, of all replicas; where an owner cannot be asked, what the cluster shows."""

from dataclasses import dataclass

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.gateways import GatewayDirectory
from controlplane.domain.workloads.placement import matches, parse_selector
from controlplane.rpc.refusals import Context
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.calls import Calls, fill, page


@dataclass(eq=False, kw_only=True)
class Reads(Calls):
    """Answers lists, and questions for one VNode."""

    gateways: GatewayDirectory

    async def ListVNodes(self, request: pb.ListVNodesRequest, context: Context) -> pb.ListVNodesResponse:
        """List VNodes by name."""
        async with self.answering(context):
            selector = parse_selector(request.selector)
            await self.sync(context)
            await self.index.entries()
            entries = (one async for one in self.index.walk(request.page_token) if matches(selector, one.vnode.labels))
            items, token = await page(entries, lambda entry: entry.vnode.name, request.page_size, request.page_token)
            answer = pb.ListVNodesResponse(next_page_token=token, unreachable_replicas=self.links.unreachable())
            await fill(answer.items, map(self.index.lively, items))
            return answer

    async def GetVNode(self, request: pb.GetVNodeRequest, context: Context) -> pb.GetVNodeResponse:
        """Get one VNode with its modules and recent events."""
        async with self.answering(context):
            await self.sync(context)
            await self.index.entries()
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
            vnode = await self.found(request.vnode)
            entries = self.index.walk(_vnode_of(request.page_token), vnode)
            modules = (one async for entry in entries for one in entry.chosen(request))
            items, token = await page(modules, codec.module_key, request.page_size, request.page_token)
            unreachable = self.links.unreachable(vnode)
            answer = pb.ListModulesResponse(next_page_token=token, unreachable_replicas=unreachable)
            await fill(answer.items, await self.shown(items, request))
            return answer

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        """List the last operations on modules by VNode and time."""
        async with self.answering(context):
            await self.sync(context)
            vnode = await self.found(request.vnode)
            operations = (
                one
                async for entry in self.index.walk(_vnode_of(request.page_token), vnode)
                for one in sorted(entry.operations, key=_operation_key)
                if request.name in ("", one.name)
            )
            items, token = await page(operations, _operation_key, request.page_size, request.page_token)
            unreachable = self.links.unreachable(vnode)
            answer = pb.ListOperationsResponse(next_page_token=token, unreachable_replicas=unreachable)
            await fill(answer.items, items)
            return answer

    async def ListGateways(self, request: pb.ListGatewaysRequest, context: Context) -> pb.ListGatewaysResponse:
        """List the connected gateways by id."""
        async with self.answering(context):
            await self.sync(context)
            found = (*codec.gateways(self.gateways, self.vnodes.roster), *self.links.gateways())
            return pb.ListGatewaysResponse(items=codec.merged_gateways(found), unreachable_replicas=self.links.silent())


def _vnode_of(token: str) -> str:
    return token.partition("\n")[0]


def _operation_key(operation: pb.PastOperation) -> str:
    at = operation.time
    return f"{operation.vnode}\n{at.seconds:011d}.{at.nanos:09d}\n{operation.name}:{operation.version}"
