"""Turns "something may have changed" into changes of items, for the watch calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.changes import Subscription
from controlplane.domain.identity import VNodeName
from controlplane.rpc.refusals import Ending

GATHER = 0.1
"""Seconds in which changes are gathered before they are looked at."""

T = TypeVar("T", bound=Message)


class News:
    """Wakes one watch: something may have changed, or the replica ends."""

    def __init__(self, names: Subscription[VNodeName]) -> None:
        self._names = names
        self._ending = False

    def changed(self) -> None:
        """Have the watch look again."""
        self._names.nudge()

    def end(self) -> None:
        """Have the watch end, whatever changes from now on."""
        self._ending = True
        self._names.nudge()

    async def wait(self) -> None:
        """Return when something may have changed, a moment after it did; raises Ending."""
        await self._names.wait()
        if not self._ending:
            await asyncio.sleep(GATHER)
        self.check()
        self._names.take()

    def check(self) -> None:
        """Raise Ending once the replica ends."""
        if self._ending:
            raise Ending


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """All items by key, and the replicas that could not be asked for theirs."""

    items: dict[str, T]
    unreachable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """A change of an item; without one, who cannot be asked."""

    type: pb.ChangeType.ValueType = pb.CHANGE_TYPE_UNSPECIFIED
    item: T | None = None
    unreachable: tuple[str, ...] = ()


async def follow(read: Callable[[], View[T]], news: News) -> AsyncIterator[Told[T]]:
    """Yield all items that read gives, then who cannot be asked, then what changes of both. Raises Ending.

    Whatever came and went in between is not told.
    """
    known: dict[str, T] = {}
    unreachable: tuple[str, ...] | None = None
    while True:
        news.check()
        view = read()
        for key, item in view.items.items():
            if key not in known:
                yield Told(pb.CHANGE_TYPE_ADDED, item)
            elif known[key] != item:
                yield Told(pb.CHANGE_TYPE_MODIFIED, item)
        for key in known.keys() - view.items.keys():
            yield Told(pb.CHANGE_TYPE_DELETED, known[key])
        known = view.items
        if view.unreachable != unreachable:
            unreachable = view.unreachable
            yield Told(unreachable=unreachable)
        await news.wait()
