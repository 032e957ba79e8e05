"""The watch calls: everything as it is, a mark that says so, then each change.

What a watch keeps is bounded by what there is to see; a reader of events that falls behind is cut off.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.turns import Turns
from controlplane.domain.workloads.placement import matches, parse_selector
from controlplane.rpc.refusals import Context
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.calls import Calls
from controlplane.rpc.tooling.index import GATHER, Entry

M = TypeVar("M", bound=Message)


def differences(before: dict[str, M], after: dict[str, M]) -> Iterator[tuple[pb.ChangeType.ValueType, M]]:
    """Iterate over what makes one set of items another; items by key."""
    for key, item in after.items():
        if key not in before:
            yield pb.CHANGE_TYPE_ADDED, item
        elif before[key] != item:
            yield pb.CHANGE_TYPE_MODIFIED, item
    for key in before.keys() - after.keys():
        yield pb.CHANGE_TYPE_DELETED, before[key]


class Watches(Calls):
    """Answers watches; all end with the replica."""

    async def WatchVNodes(
        self, request: pb.WatchVNodesRequest, context: Context
    ) -> AsyncGenerator[pb.WatchVNodesResponse, None]:
        """Send all matching VNodes, then each change."""

        def items(entry: Entry) -> dict[str, pb.VNode]:
            return {entry.vnode.name: entry.vnode} if matches(selector, entry.vnode.labels) else {}

        async with self.answering(context):
            selector = parse_selector(request.selector)
            async with aclosing(self._changes(items)) as changes:
                async for change, item, unreachable in changes:
                    yield pb.WatchVNodesResponse(type=change, vnode=item, unreachable_replicas=unreachable)

    async def WatchModules(
        self, request: pb.WatchModulesRequest, context: Context
    ) -> AsyncGenerator[pb.WatchModulesResponse, None]:
        """Send all matching modules, then each change."""

        def items(entry: Entry) -> dict[str, pb.Module]:
            return {codec.module_key(module): module for module in entry.chosen(request)}

        async with self.answering(context), aclosing(self._changes(items, request.vnode)) as changes:
            async for change, item, unreachable in changes:
                (module,) = await self.shown([item], request) if item is not None else (None,)
                yield pb.WatchModulesResponse(type=change, module=module, unreachable_replicas=unreachable)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        """Send the recent events, then new ones when asked to follow."""
        async with self.answering(context):
            with self.index.changed.subscribed() as news, self.links.kept_open():
                await self.links.sync()
                self.index.go_on()
                vnode = await self.found(request.vnode) if request.vnode else ""
                came, fresh = self.events.came, self.events.recent(vnode)
                standing: tuple[str, ...] | None = None
                while True:
                    for event in fresh:
                        if vnode in ("", event.vnode):
                            yield pb.WatchEventsResponse(event=event)
                    if (now := self.links.unreachable(vnode)) != standing:
                        standing = now
                        yield pb.WatchEventsResponse(unreachable_replicas=standing)
                    if not request.follow:
                        return
                    await news.wait()
                    news.take()
                    self.index.go_on()
                    fresh = self.events.since(came)
                    came += len(fresh)

    async def _changes(
        self, items: Callable[[Entry], dict[str, M]], only: str = ""
    ) -> AsyncGenerator[tuple[pb.ChangeType.ValueType, M | None, tuple[str, ...]], None]:
        """Yield all items, then, without an item, who cannot be asked, then what changes of both.

        Whatever came and went between two looks is left out.
        """
        with self.index.watched() as names, self.links.kept_open():
            await self.links.sync()
            self.index.go_on()
            vnode = await self.found(only)
            names.take()
            known: dict[str, Entry] = {}
            async for entry in self.index.walk(only=vnode):
                known[entry.vnode.name] = entry
                for item in items(entry).values():
                    self.index.go_on()
                    yield pb.CHANGE_TYPE_ADDED, item, ()
            standing: tuple[str, ...] | None = None
            turns = Turns()
            while True:
                entries = await self.index.entries()
                for name in names.take():
                    if vnode in ("", name):
                        before, after = _replaced(known, name, entries.get(name), items)
                        for change, item in differences(before, after):
                            self.index.go_on()
                            yield change, item, ()
                        await turns.handled(len(before) + len(after))
                    await turns.handled()
                self.index.go_on()
                if (now := self.links.unreachable(vnode)) != standing:
                    standing = now
                    yield pb.CHANGE_TYPE_UNSPECIFIED, None, standing
                await names.wait()
                self.index.go_on()
                await asyncio.sleep(GATHER)
                self.index.go_on()


def _replaced(
    known: dict[str, Entry], name: str, entry: Entry | None, items: Callable[[Entry], dict[str, M]]
) -> tuple[dict[str, M], dict[str, M]]:
    """Make an entry, or none, the known one of that name; return the items of the one before, and its own."""
    before = known.pop(name, None)
    if entry is not None:
        known[name] = entry
    return items(before) if before is not None else {}, items(entry) if entry is not None else {}
