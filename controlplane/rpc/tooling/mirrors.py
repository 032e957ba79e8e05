"""What other replicas tell on their watches, kept for one watch of ours."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.rpc.tooling.merging import Kind, Part
from controlplane.rpc.tooling.streams import TooMuch

MOST_ITEMS = 200_000
"""Items of one replica that are kept for one watch."""

KEPT_FOR = 60.0
"""Seconds for which the word of a replica that is gone stands, until another one takes its VNodes."""

GONE_REMEMBERED = 5
"""Replicas that are gone whose events are known again if they come back."""

M = TypeVar("M", bound=Message)


C = TypeVar("C", pb.WatchVNodesResponse, pb.WatchModulesResponse)


class Mirror(Generic[C, M]):
    """The items of each other replica, as it told them last. item reads a message's, None of a mark."""

    def __init__(self, kind: Kind[M], item: Callable[[C], M | None]) -> None:
        self._kind = kind
        self._item: Callable[[C], M | None] = item
        self._items: dict[str, dict[str, M]] = {}
        self._fresh: dict[str, dict[str, M]] = {}
        self._gone: dict[str, float] = {}

    def parts(self, there: Callable[[str], bool]) -> Iterator[Part[M]]:
        """Yield what each said of its VNodes, those that are gone last and only of VNodes that are there still."""
        now = asyncio.get_running_loop().time()
        for replica, at in list(self._gone.items()):
            if now - at >= KEPT_FOR:
                self._items.pop(replica, None)
                del self._gone[replica]
        for replica, items in self._items.items():
            if replica not in self._gone:
                yield Part(replica, list(items.values()))
        for replica in self._gone:
            kept = self._items.get(replica, {}).values()
            yield Part(replica, [item for item in kept if there(self._kind.vnode(item))])

    def begun(self, replica: str) -> None:
        """Take what comes up to the mark for all that there is."""
        self._gone.pop(replica, None)
        self._fresh[replica] = {}

    def heard(self, replica: str, message: C) -> bool:
        """Take a message; return whether it is the mark. Raises TooMuch."""
        item = self._item(message)
        if item is None:
            return True
        items = self._fresh.get(replica)
        if items is None:
            items = self._items.setdefault(replica, {})
        if message.type == pb.CHANGE_TYPE_DELETED:
            items.pop(self._kind.key(item), None)
        else:
            items[self._kind.key(item)] = item
        if len(items) > MOST_ITEMS:
            raise TooMuch(f"it tells more than {MOST_ITEMS} items")
        return False

    def complete(self, replica: str) -> None:
        """Let what came since the stream began take the place of what was known."""
        if replica in self._fresh:
            self._items[replica] = self._fresh.pop(replica)

    def gone(self, replica: str) -> None:
        """Keep the word of a replica that lives no more for a while."""
        self._fresh.pop(replica, None)
        if replica in self._items:
            self._gone[replica] = asyncio.get_running_loop().time()


class Gathering:
    """Events of the other replicas, each once although a new stream tells the recent ones again."""

    def __init__(self, deliver: Callable[[pb.Event], None], *, kept: int) -> None:
        self._deliver = deliver
        self._kept = kept
        self._order: dict[str, deque[bytes]] = {}
        self._known: dict[str, set[bytes]] = {}
        self._gone: list[str] = []

    def replicas(self) -> set[str]:
        """Return whose events are known."""
        return set(self._known)

    def begun(self, replica: str) -> None:
        """A stream begins; what it repeats is known, also where its replica was thought to be gone."""
        if replica in self._gone:
            self._gone.remove(replica)

    def heard(self, replica: str, message: pb.WatchEventsResponse) -> bool:
        """Take a message; return whether it is the mark."""
        if not message.HasField("event"):
            return True
        mark = message.event.SerializeToString(deterministic=True)
        known = self._known.setdefault(replica, set())
        if mark not in known:
            order = self._order.setdefault(replica, deque())
            order.append(mark)
            known.add(mark)
            if len(order) > self._kept:
                known.discard(order.popleft())
            self._deliver(message.event)
        return False

    def complete(self, replica: str) -> None:
        """All recent ones have been told."""

    def gone(self, replica: str) -> None:
        """Forget what a replica told, once several others are gone too."""
        self._gone.append(replica)
        if len(self._gone) > GONE_REMEMBERED:
            forgotten = self._gone.pop(0)
            self._order.pop(forgotten, None)
            self._known.pop(forgotten, None)
