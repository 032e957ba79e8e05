"""The watch calls: everything as it is, a mark that says so, then each change.

What a watch keeps is bounded by what there is to see; a reader of events that falls behind is cut off.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.domain.workloads.placement import matches, parse_selector
from controlplane.rpc.refusals import Ending
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.events import Events
from controlplane.rpc.tooling.index import GATHER, Entry, Index
from controlplane.rpc.tooling.reads import chosen
from controlplane.rpc.tooling.replicas import ReplicaLinks

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class WatchUpdate(Generic[M]):
    """A change of an item; without one, the mark: who cannot be asked."""

    type: pb.ChangeType.ValueType = pb.CHANGE_TYPE_UNSPECIFIED
    item: M | None = None
    unreachable: tuple[str, ...] = ()


def differences(before: dict[str, M], after: dict[str, M]) -> Iterator[WatchUpdate[M]]:
    """Iterate over what makes one set of items another; items by key."""
    for key, item in after.items():
        if key not in before:
            yield WatchUpdate(pb.CHANGE_TYPE_ADDED, item)
        elif before[key] != item:
            yield WatchUpdate(pb.CHANGE_TYPE_MODIFIED, item)
    for key in before.keys() - after.keys():
        yield WatchUpdate(pb.CHANGE_TYPE_DELETED, before[key])


class Watches:
    """Serves watches. Every method raises RequestError, Missing where there is no such VNode, and Ending."""

    def __init__(self, index: Index, links: ReplicaLinks, events: Events) -> None:
        self._index = index
        self._links = links
        self._events = events
        self._ending = False

    def end(self) -> None:
        """End all watches, and each that begins after this: that bases are let go of from now on is no news of them."""
        self._ending = True
        self._index.changed.nudge()
        self._events.nudge()

    async def vnodes(self, request: pb.WatchVNodesRequest) -> AsyncGenerator[pb.WatchVNodesResponse, None]:
        """Send the matching VNodes, then each change."""
        selector = parse_selector(request.selector)

        def items(entry: Entry) -> dict[str, pb.VNode]:
            return {entry.vnode.name: entry.vnode} if matches(selector, entry.vnode.labels) else {}

        async with aclosing(self._changes(items)) as changes:
            async for one in changes:
                yield pb.WatchVNodesResponse(type=one.type, vnode=one.item, unreachable_replicas=one.unreachable)

    async def modules(self, request: pb.WatchModulesRequest) -> AsyncGenerator[pb.WatchModulesResponse, None]:
        """Send the matching modules, then each change."""

        def items(entry: Entry) -> dict[str, pb.Module]:
            return {codec.module_key(module): module for module in chosen(entry, request)}

        async with aclosing(self._changes(items, request.vnode)) as changes:
            async for one in changes:
                yield pb.WatchModulesResponse(type=one.type, module=one.item, unreachable_replicas=one.unreachable)

    async def events(self, request: pb.WatchEventsRequest) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        """Send the recent events, then new ones when asked to follow. Raises TooSlow."""
        self._go_on()
        with self._events.read() as reader, self._links.kept_open():
            await self._links.sync()
            self._go_on()
            vnode = self._index.find(request.vnode).vnode.name if request.vnode else ""
            for event in self._events.recent(vnode):
                yield pb.WatchEventsResponse(event=event)
            reader.take()
            standing = self._links.unreachable(vnode)
            yield pb.WatchEventsResponse(unreachable_replicas=standing)
            while request.follow:
                await reader.something.wait()
                self._go_on()
                for event in reader.take():
                    if vnode in ("", event.vnode):
                        yield pb.WatchEventsResponse(event=event)
                if (now := self._links.unreachable(vnode)) != standing:
                    standing = now
                    yield pb.WatchEventsResponse(unreachable_replicas=standing)

    async def _changes(
        self, items: Callable[[Entry], dict[str, M]], only: str = ""
    ) -> AsyncGenerator[WatchUpdate[M], None]:
        """Yield all items, then who cannot be asked, then what changes of both.

        Whatever came and went between two looks is left out.
        """
        self._go_on()
        with self._index.watched() as names, self._links.kept_open():
            await self._links.sync()
            self._go_on()
            vnode = self._index.find(only).vnode.name if only else ""
            known: dict[str, dict[str, M]] = {}
            changed = set(self._index.names())
            unreachable: tuple[str, ...] | None = None
            while True:
                entries = self._index.entries()
                for name in sorted(changed | names.take()):
                    if vnode in ("", name):
                        before, entry = known.pop(name, {}), entries.get(name)
                        after = items(entry) if entry is not None else {}
                        if after:
                            known[name] = after
                        for change in differences(before, after):
                            yield change
                            self._go_on()
                if (now := self._links.unreachable(vnode)) != unreachable:
                    unreachable = now
                    yield WatchUpdate(unreachable=now)
                changed = set()
                await names.wait()
                self._go_on()
                await asyncio.sleep(GATHER)
                self._go_on()

    def _go_on(self) -> None:
        if self._ending:
            raise Ending
