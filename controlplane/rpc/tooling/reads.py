"""What tools read, from all replicas: each owner's word on its VNodes, the cluster's where an owner cannot be asked.

With own only what this replica owns is answered, and nobody is asked; else the others are given within, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.roster import Roster
from controlplane.app.tooling.operations import Missing, ModuleItem, Operations, VNodeItem
from controlplane.app.tooling.shards import Shards
from controlplane.domain.base.history import Operation
from controlplane.domain.workloads import rollout
from controlplane.domain.workloads.placement import parse_selector
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.deadlines import FOR_OTHERS
from controlplane.rpc.tooling.merging import (
    MODULES,
    OPERATIONS,
    VNODES,
    Kind,
    Part,
    by_time,
    cut,
    merge,
    merge_gateways,
)
from controlplane.rpc.tooling.paging import MOST_IN_PAGE, PAGE, page
from controlplane.rpc.tooling.replicas import Answers, Others

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)


class Page(Protocol[M_co]):
    """A page as a replica tells it."""

    @property
    def items(self) -> Iterable[M_co]:
        """The items, by key."""

    @property
    def next_page_token(self) -> str:
        """The last key, if there is more."""


P = TypeVar("P", bound=Page[Any])


class Reads:
    """Answers reads. Every method raises Refusal, Missing where there is no such VNode."""

    def __init__(
        self,
        *,
        operations: Operations,
        roster: Roster,
        gateways: GatewayDirectory,
        recorder: Recorder,
        shards: Shards,
        others: Others,
    ) -> None:
        self._operations = operations
        self._roster = roster
        self._gateways = gateways
        self._recorder = recorder
        self._shards = shards
        self._others = others

    async def vnodes(
        self, request: pb.ListVNodesRequest, *, own: bool, within: float = FOR_OTHERS
    ) -> pb.ListVNodesResponse:
        """List VNodes by name."""
        items = self._operations.vnodes(parse_selector(request.selector))
        mine = {item.name for item in items if item.base is not None}
        if own:
            items = [item for item in items if item.name in mine]
        chosen, until = page(items, [item.name for item in items], request.page_size, request.page_token)
        found = list(map(codec.vnode, chosen))
        if own:
            return pb.ListVNodesResponse(items=found, next_page_token=until)
        answers = _advancing(await self._others.ask(lambda stub: stub.ListVNodes, request, within), request.page_token)
        told, token = self._merged(VNODES, found, until, answers.given, mine, request.page_size)
        return pb.ListVNodesResponse(items=told, next_page_token=token, unreachable_replicas=self._unreachable(answers))

    async def vnode(self, request: pb.GetVNodeRequest, *, own: bool, within: float = FOR_OTHERS) -> pb.GetVNodeResponse:
        """Get one VNode with its modules and recent events; one that is not ours, if own, with our events alone."""
        try:
            item = self._operations.vnode(request.name)
        except Missing:
            # Its owner may know it before its Node is there.
            if own or not self._others.live():
                raise
            item = None
        found = self._vnode(item, own=own) if item is not None else pb.GetVNodeResponse()
        if own:
            return found
        answers = await self._others.ask(lambda stub: stub.GetVNode, request, within)
        heard = {name: answer for name, answer in answers.given.items() if answer is not None}
        owners = {name: answer for name, answer in heard.items() if answer.HasField("vnode")}
        if item is not None and (item.base is not None or not owners):
            owners = {self._others.me: found, **owners}
        if not owners:
            raise Missing(f"there is no VNode or base {request.name!r}")
        first = next(iter(owners.values()))
        name = first.vnode.name
        owner = owners.get(self._shards.holder(name), first)
        return pb.GetVNodeResponse(
            vnode=owner.vnode,
            modules=owner.modules,
            events=by_time(event for answer in (found, *heard.values()) for event in answer.events),
            unreachable_replicas=self._unreachable(answers, name),
        )

    def _vnode(self, item: VNodeItem, *, own: bool) -> pb.GetVNodeResponse:
        found = pb.GetVNodeResponse(
            events=[codec.event(event) for event in self._recorder.recent() if event.vnode == item.name]
        )
        if item.base is not None or not own:
            found.vnode.CopyFrom(codec.vnode(item))
            found.modules.extend(codec.module(module) for module in self._operations.modules(item.name))
        return found

    async def modules(
        self, request: pb.ListModulesRequest, *, own: bool, within: float = FOR_OTHERS
    ) -> pb.ListModulesResponse:
        """List modules by VNode, name and version."""
        vnode = self._operations.vnode(request.vnode).name if request.vnode else ""
        mine = self._mine()
        items = self._operations.modules(vnode, request.name, codec.management(request.management))
        if own:
            items = [item for item in items if item.vnode in mine]
        chosen, until = page(items, [module_key(item) for item in items], request.page_size, request.page_token)
        found = list(map(codec.module, chosen))
        if own:
            return pb.ListModulesResponse(items=found, next_page_token=until)
        answers = _advancing(await self._others.ask(lambda stub: stub.ListModules, request, within), request.page_token)
        told, token = self._merged(MODULES, found, until, answers.given, mine, request.page_size)
        return pb.ListModulesResponse(
            items=told, next_page_token=token, unreachable_replicas=self._unreachable(answers, vnode)
        )

    async def bare(self, name: str, version: str, *, within: float) -> tuple[dict[str, list[rollout.Part]], list[str]]:
        """Return the modules of that name without a Pod on VNodes of others, and who could not be asked."""
        found: dict[str, list[rollout.Part]] = {}
        request = pb.ListModulesRequest(name=name, page_size=MOST_IN_PAGE)
        while True:
            told = await self.modules(request, own=False, within=within)
            for item in told.items:
                if not item.pod and version in ("", item.version):
                    found.setdefault(item.vnode, []).append(rollout.Part("", f"{item.name}:{item.version}", item.ready))
            request.page_token = told.next_page_token
            if not request.page_token:
                return found, list(told.unreachable_replicas)

    async def past(
        self, request: pb.ListOperationsRequest, *, own: bool, within: float = FOR_OTHERS
    ) -> pb.ListOperationsResponse:
        """List the last operations on modules by VNode and time."""
        vnode = self._operations.vnode(request.vnode).name if request.vnode else ""
        items = self._operations.past(vnode, request.name)
        chosen, until = page(items, [_past_key(*item) for item in items], request.page_size, request.page_token)
        found = [codec.past(*item) for item in chosen]
        if own:
            return pb.ListOperationsResponse(items=found, next_page_token=until)
        answers = _advancing(
            await self._others.ask(lambda stub: stub.ListOperations, request, within), request.page_token
        )
        told, token = self._merged(OPERATIONS, found, until, answers.given, self._mine(), request.page_size)
        return pb.ListOperationsResponse(
            items=told, next_page_token=token, unreachable_replicas=self._unreachable(answers, vnode)
        )

    async def gateways(
        self, request: pb.ListGatewaysRequest, *, own: bool, within: float = FOR_OTHERS
    ) -> pb.ListGatewaysResponse:
        """List the connected gateways by id."""
        orders: dict[str, int] = {}
        for base in self._roster.bases():
            for flight in base.modules.in_flight.values():
                orders[flight.gateway] = orders.get(flight.gateway, 0) + 1
        connected = sorted(self._gateways.all(), key=lambda c: c.link.info.gateway_id)
        load = self._roster.load
        found = [
            codec.gateway(c, watched=load[c.link.info.gateway_id], orders=orders.get(c.link.info.key, 0))
            for c in connected
        ]
        if own:
            return pb.ListGatewaysResponse(items=found)
        answers = await self._others.ask(lambda stub: stub.ListGateways, request, within)
        heard = [answer.items for answer in answers.given.values() if answer is not None]
        return pb.ListGatewaysResponse(
            items=merge_gateways([found, *heard]), unreachable_replicas=sorted(answers.unreachable)
        )

    def _mine(self) -> set[str]:
        return {base.vnode for base in self._roster.bases()}

    def _merged(
        self,
        kind: Kind[M],
        found: Sequence[M],
        until: str,
        given: Mapping[str, Page[M] | None],
        mine: set[str],
        size: int,
    ) -> tuple[Sequence[M], str]:
        """Return the page of all replicas, and its token.

        found and until are our page: of VNodes that are mine, and of others as the cluster has them.
        """
        if not given:
            return found, until
        parts = [Part(self._others.me, [item for item in found if kind.vnode(item) in mine], until)]
        parts += [
            Part(name, list(told.items), told.next_page_token) for name, told in given.items() if told is not None
        ]
        rest = Part("", [item for item in found if kind.vnode(item) not in mine], until)
        return cut(kind, merge(kind, parts, rest, self._shards.holder), size or PAGE)

    def _unreachable(self, answers: Answers[M], vnode: str = "") -> list[str]:
        """Return who could not be asked: others that live, and whoever holds Leases without living among us."""
        return sorted(answers.unreachable | (self._shards.holders(vnode) - answers.given.keys() - {self._others.me}))


def _advancing(answers: Answers[P], token: str) -> Answers[P]:
    """Return the answers without those of pages that end before they begin: whoever gives such is not to be asked."""
    stuck = {name for name, told in answers.given.items() if told and "" < told.next_page_token <= token}
    given = {name: told for name, told in answers.given.items() if name not in stuck}
    return Answers(given, answers.unreachable | stuck)


def module_key(item: ModuleItem) -> str:
    """Return what orders modules and names one, as MODULES does of messages."""
    return "\n".join((item.vnode, item.key.name, item.key.version, item.pod.key if item.pod else ""))


def _past_key(vnode: str, operation: Operation) -> str:
    seconds, nanos = divmod(round(operation.wall * 1_000_000_000), 1_000_000_000)
    return f"{vnode}\n{seconds:011d}.{nanos:09d}\n{operation.key}"
