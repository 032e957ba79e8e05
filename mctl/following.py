"""Watching without losing the thread: a cut stream is opened again, and only real changes are told."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from mctl.errors import NoAnswer, Unreachable
from mctl.records import Change, ChangeType, Event, R
from mctl.rpc.connection import backoff

T = TypeVar("T")

_REMEMBERED_EVENTS = 4096
_SHORTEST = 0.1
"""Seconds that one question is given at least."""


class Seen(Generic[R]):
    """What a watcher was told last about each item."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, ...], R] = {}

    def take(self, change: Change[R]) -> Iterator[Change[R]]:
        """Yield the change as it is against what was told: an item told again unchanged is none."""
        key = change.item.identity
        known = self._items.get(key)
        if change.type is ChangeType.DELETED:
            if self._items.pop(key, None) is not None:
                yield change
            return
        self._items[key] = change.item
        if known is None:
            yield Change(ChangeType.ADDED, change.item)
        elif known != change.item:
            yield Change(ChangeType.MODIFIED, change.item)

    def against(self, items: Iterable[R]) -> list[Change[R]]:
        """Return the changes, not yet taken, that turn what was told into a complete new list."""
        fresh = {item.identity: item for item in items}
        gone = [Change(ChangeType.DELETED, item) for key, item in self._items.items() if key not in fresh]
        return gone + [Change(ChangeType.ADDED, item) for item in fresh.values()]


def follow(
    watch: Callable[[float], Iterator[Change[R]]],
    snapshot: Callable[[float], Iterable[R]],
    *,
    patience: float,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Change[R]]:
    """Yield changes for ever, over restarts of the server.

    watch and snapshot are given the seconds within which they must be answered. A new
    stream does not tell what vanished meanwhile, so a full list is compared before it.
    Raises Unreachable when no stream could be had for patience seconds.
    """
    seen: Seen[R] = Seen()
    changes = _reopened(watch, lambda left: seen.against(snapshot(left)), patience=patience, wait=wait, clock=clock)
    for change in changes:
        yield from seen.take(change)


def follow_events(
    watch: Callable[[float], Iterator[Event]],
    contact: Callable[[float], object],
    *,
    patience: float,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Event]:
    """Yield events for ever, each once although a new stream starts with recent ones.

    contact is any call that raises Unreachable while the server is away; so does
    this, after patience seconds of it.
    """

    def nothing_missed(left: float) -> tuple[Event, ...]:
        contact(left)
        return ()

    recent: deque[tuple[str, ...]] = deque(maxlen=_REMEMBERED_EVENTS)
    for event in _reopened(watch, nothing_missed, patience=patience, wait=wait, clock=clock):
        if event.identity not in recent:
            recent.append(event.identity)
            yield event


def poll(
    snapshot: Callable[[], Iterable[R]], interval: float, *, wait: Callable[[float], None] = time.sleep
) -> Iterator[Change[R]]:
    """Yield changes for ever by listing every interval seconds, for what has no watch."""
    seen: Seen[R] = Seen()
    while True:
        for change in seen.against(snapshot()):
            yield from seen.take(change)
        wait(interval)


def _reopened(
    open_stream: Callable[[float], Iterator[T]],
    between: Callable[[float], Iterable[T]],
    *,
    patience: float,
    wait: Callable[[float], None],
    clock: Callable[[], float],
) -> Iterator[T]:
    # An idle stream says nothing for hours, so contact is judged by between, which is a unary call.
    attempt = 0
    lost: float | None = None

    def left() -> float:
        return patience if lost is None else max(patience - (clock() - lost), _SHORTEST)

    while True:
        try:
            if attempt:
                missed = list(between(left()))
                lost = None
                yield from missed
            for item in open_stream(left()):
                attempt, lost = 0, None
                yield item
        except NoAnswer:
            # All the time that was left has been waited for an answer.
            raise
        except Unreachable:
            lost = clock() if lost is None else lost
            if clock() - lost >= patience:
                raise
        wait(backoff(attempt))
        attempt += 1
