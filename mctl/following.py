"""Watching: a cut stream is opened again, and only real changes are passed on."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.errors import ServerUnreachable
from mctl.kinds import ADDED, DELETED, EVENT, MODIFIED, ItemChange, ItemKind, M
from mctl.pacing import backoff

_REMEMBERED_EVENTS = 4096
_SHORTEST = 0.1
"""Seconds that the opening of a stream is given at least."""

Stream = Iterable[ItemChange[M] | None]
"""All that there is as added, None when that was all, then each change; None again when there is nothing to show."""


class KnownItems(Generic[M]):
    """What a watcher knows of each item."""

    def __init__(self, kind: ItemKind[M]) -> None:
        self._key = kind.key
        self._items: dict[tuple[str, ...], M] = {}

    def take(self, change: ItemChange[M]) -> list[ItemChange[M]]:
        """Return the change as it is against what is known: none for an item that is known like this."""
        item, key = change.item, self._key(change.item)
        if change.type == DELETED:
            return [change] if self._items.pop(key, None) is not None else []
        known = self._items.get(key)
        self._items[key] = item
        if known is None:
            return [ItemChange(ADDED, item)]
        return [ItemChange(MODIFIED, item)] if known != item else []

    def replace(self, items: Iterable[M]) -> list[ItemChange[M]]:
        """Return the changes that turn what is known into a complete new list; what is gone comes first."""
        fresh = {self._key(item): item for item in items}
        gone = [ItemChange(DELETED, item) for key, item in self._items.items() if key not in fresh]
        there = [ItemChange(ADDED, item) for item in fresh.values()]
        return [real for change in gone + there for real in self.take(change)]

    def read(self, stream: Stream[M]) -> Iterator[list[ItemChange[M]]]:
        """Yield the changes that each message of a new stream stands for: what is gone shows when all has come."""
        complete, fresh = False, []
        for change in stream:
            if complete:
                yield self.take(change) if change else []
            elif change:
                fresh.append(change.item)
                yield []
            else:
                complete = True
                yield self.replace(fresh)


def unseen() -> Callable[[Stream[pb.Event]], Iterator[list[ItemChange[pb.Event]]]]:
    """Return what reads streams that begin with recent events, and yields each event once."""
    recent: deque[tuple[str, ...]] = deque(maxlen=_REMEMBERED_EVENTS)

    def read(stream: Stream[pb.Event]) -> Iterator[list[ItemChange[pb.Event]]]:
        for change in stream:
            if change is None or (key := EVENT.key(change.item)) in recent:
                yield []
            else:
                recent.append(key)
                yield [change]

    return read


def follow(
    open_stream: Callable[[float], Stream[M]],
    read: Callable[[Stream[M]], Iterator[list[ItemChange[M]]]],
    patience: float,
    *,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[ItemChange[M]]:
    """Yield changes until cancelled, over restarts of the server.

    open_stream is given the seconds within which the first message must come. Raises ServerUnreachable when nothing
    came for patience seconds.
    """
    attempt, asked = 0, 0.0
    lost: float | None = clock()
    while True:
        left = patience if lost is None else max(patience - (clock() - lost), _SHORTEST)
        try:
            for changes in read(open_stream(left)):
                attempt, lost, asked = 0, None, 0.0
                yield from changes
        except ServerUnreachable as error:
            lost = clock() if lost is None else lost
            asked = error.retry_after
            if clock() - lost + asked >= patience:
                raise
        wait(asked + backoff(attempt))
        attempt += 1


def poll(
    ask: Callable[[], Iterable[M]], kind: ItemKind[M], interval: float, *, wait: Callable[[float], None] = time.sleep
) -> Iterator[ItemChange[M]]:
    """Yield changes until cancelled by asking every interval seconds, for what has no watch."""
    known = KnownItems(kind)
    while True:
        yield from known.replace(ask())
        wait(interval)
