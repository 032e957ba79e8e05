"""The watch calls: what this replica owns, and what the others tell of theirs.

With own only what this replica owns is told, and nobody is asked. What a watch keeps
is bounded by what there is to see; a reader of events that falls behind is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import KEPT, Happening, Recorder
from controlplane.app.roster import Roster
from controlplane.app.tooling.operations import Operations
from controlplane.app.tooling.shards import Shards
from controlplane.domain.workloads.placement import parse_selector
from controlplane.rpc.refusals import Ending
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.merging import MODULES, VNODES, Kind, Part, by_time, merge
from controlplane.rpc.tooling.mirrors import C, Gathering, M, Mirror
from controlplane.rpc.tooling.replicas import Others
from controlplane.rpc.tooling.streams import Q, Streams
from controlplane.rpc.tooling.watching import News, Told, View, follow

if TYPE_CHECKING:
    from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceAsyncStub

WAITING = 5000
"""Events that wait for one reader."""


class TooSlow(Exception):
    """Events came faster than they were read."""


class Waiting:
    """Events for one reader: gathered until recent is called, then one by one."""

    def __init__(self, most: int = WAITING) -> None:
        self._recent: list[pb.Event] | None = []
        self._queue: asyncio.Queue[pb.Event | None] = asyncio.Queue(most)
        self._nudged = False
        self._dropped = False
        self._ending = False

    def put(self, event: pb.Event) -> None:
        """Add an event; a reader who has fallen behind is told so instead."""
        if self._recent is not None:
            self._recent.append(event)
        elif self._queue.full():
            self._dropped = True
        else:
            self._queue.put_nowait(event)

    def nudge(self) -> None:
        """Have the reader look at what else may have changed."""
        if self._recent is None and not self._nudged and not self._queue.full():
            self._nudged = True
            self._queue.put_nowait(None)

    def end(self) -> None:
        """Have the reader end."""
        self._ending = True
        if self._queue.empty():
            self._queue.put_nowait(None)

    def recent(self) -> list[pb.Event]:
        """Return what was gathered, oldest first, and begin to queue."""
        gathered, self._recent = self._recent or [], None
        return by_time(gathered)

    async def get(self) -> pb.Event | None:
        """Return the next event, None for a nudge. Raises TooSlow, Ending."""
        if self._dropped:
            raise TooSlow("events came faster than they were read: watch again")
        event = await self._queue.get()
        if self._ending:
            raise Ending
        if event is None:
            self._nudged = False
        return event


W = TypeVar("W", News, Waiting)


class Watches:
    """Serves watches. Every method raises Refusal, Missing where there is no such VNode."""

    def __init__(
        self, *, operations: Operations, roster: Roster, recorder: Recorder, shards: Shards, others: Others
    ) -> None:
        self._operations = operations
        self._roster = roster
        self._recorder = recorder
        self._shards = shards
        self._others = others
        self._open: set[News | Waiting] = set()
        self._ending = False

    def end(self) -> None:
        """End all watches, and each that begins after this, with Ending: that bases are let go of is not told."""
        self._ending = True
        for watch in self._open:
            watch.end()

    @contextmanager
    def _opened(self, watch: W) -> Iterator[W]:
        if self._ending:
            raise Ending
        self._open.add(watch)
        try:
            yield watch
        finally:
            self._open.discard(watch)

    async def vnodes(
        self, request: pb.WatchVNodesRequest, *, own: bool
    ) -> AsyncGenerator[pb.WatchVNodesResponse, None]:
        """Tell the matching VNodes, then each change."""
        selector = parse_selector(request.selector)

        def read() -> tuple[list[pb.VNode], list[pb.VNode]]:
            ours, rest = [], []
            for item in self._operations.vnodes(selector):
                if item.base is not None:
                    ours.append(codec.vnode(item, lively=False))
                elif not own:
                    rest.append(codec.vnode(item, lively=False))
            return ours, rest

        mirror: Mirror[pb.WatchVNodesResponse, pb.VNode] = Mirror(
            VNODES, lambda told: told.vnode if told.HasField("vnode") else None
        )
        watched = self._watch(VNODES, read, mirror, lambda s: s.WatchVNodes, request, own=own)
        async with aclosing(watched) as told:
            async for change in told:
                yield pb.WatchVNodesResponse(
                    type=change.type, vnode=change.item, unreachable_replicas=change.unreachable
                )

    async def modules(
        self, request: pb.WatchModulesRequest, *, own: bool
    ) -> AsyncGenerator[pb.WatchModulesResponse, None]:
        """Tell the matching modules, then each change."""
        vnode = self._operations.vnode(request.vnode).name if request.vnode else ""
        management = codec.management(request.management)

        def read() -> tuple[list[pb.Module], list[pb.Module]]:
            mine = {base.vnode for base in self._roster.bases()}
            ours, rest = [], []
            for item in self._operations.modules(vnode, request.name, management):
                if item.vnode in mine:
                    ours.append(codec.module(item))
                elif not own:
                    rest.append(codec.module(item))
            return ours, rest

        mirror: Mirror[pb.WatchModulesResponse, pb.Module] = Mirror(
            MODULES, lambda told: told.module if told.HasField("module") else None
        )
        watched = self._watch(MODULES, read, mirror, lambda s: s.WatchModules, request, own=own, vnode=vnode)
        async with aclosing(watched) as told:
            async for change in told:
                yield pb.WatchModulesResponse(
                    type=change.type, module=change.item, unreachable_replicas=change.unreachable
                )

    async def _watch(
        self,
        kind: Kind[M],
        read: Callable[[], tuple[list[M], list[M]]],
        mirror: Mirror[C, M],
        method: Callable[[ModuleControllerServiceAsyncStub], aio.UnaryStreamMultiCallable[Q, C]],
        request: Q,
        *,
        own: bool,
        vnode: str = "",
    ) -> AsyncGenerator[Told[M], None]:
        """Tell what read gives, ours and the rest, with what the others tell of theirs."""
        async with AsyncExitStack() as stack:
            names = stack.enter_context(self._roster.changed.subscribed())
            news = stack.enter_context(self._opened(News(names)))
            streams = None
            if not own:
                streams = await stack.enter_async_context(
                    Streams(self._others, method, request, mirror, changed=news.changed)
                )
                await streams.settled()
            async for told in follow(self._view(kind, read, mirror, streams, vnode), news):
                yield told

    def _view(
        self,
        kind: Kind[M],
        read: Callable[[], tuple[list[M], list[M]]],
        mirror: Mirror[C, M],
        streams: Streams[Any, C] | None,
        vnode: str,
    ) -> Callable[[], View[M]]:
        def own() -> View[M]:
            return View({kind.key(item): item for item in read()[0]})

        def everything() -> View[M]:
            ours, rest = read()
            theirs: list[Part[M]] = list(mirror.parts(self._operations.known))
            if rest or theirs:
                parts = [Part(self._others.me, ours), *theirs]
                ours = list(merge(kind, parts, Part("", rest), self._shards.holder).items)
            return View({kind.key(item): item for item in ours}, self._unreachable(streams, vnode))

        return own if streams is None else everything

    async def events(
        self, request: pb.WatchEventsRequest, *, own: bool
    ) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        """Tell the recent events, then new ones when asked to follow. Raises TooSlow, Ending."""
        vnode = self._operations.vnode(request.vnode).name if request.vnode else ""
        async with AsyncExitStack() as stack:
            waiting = stack.enter_context(self._opened(Waiting()))

            def happened(happening: Happening) -> None:
                if not vnode or happening.vnode == vnode:
                    waiting.put(codec.event(happening))

            stack.callback(self._recorder.subscribe(happened))
            for happening in self._recorder.recent():
                happened(happening)
            streams = None
            if not own:
                streams = await stack.enter_async_context(
                    Streams(
                        self._others,
                        lambda s: s.WatchEvents,
                        request,
                        Gathering(waiting.put, kept=KEPT),
                        changed=waiting.nudge,
                        once=not request.follow,
                    )
                )
                await streams.settled()
            async for answer in self._events(waiting, streams, vnode, follow=request.follow):
                yield answer

    async def _events(
        self, waiting: Waiting, streams: Streams[Any, Any] | None, vnode: str, *, follow: bool
    ) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        for event in waiting.recent():
            yield pb.WatchEventsResponse(event=event)
        standing = self._unreachable(streams, vnode)
        yield pb.WatchEventsResponse(unreachable_replicas=standing)
        while follow:
            news = await waiting.get()
            if news is not None:
                yield pb.WatchEventsResponse(event=news)
            elif (now := self._unreachable(streams, vnode)) != standing:
                standing = now
                yield pb.WatchEventsResponse(unreachable_replicas=standing)

    def _unreachable(self, streams: Streams[Any, Any] | None, vnode: str) -> tuple[str, ...]:
        if streams is None:
            return ()
        unknown = self._shards.holders(vnode) - streams.reachable() - {self._others.me}
        return tuple(sorted(streams.unreachable() | unknown))
