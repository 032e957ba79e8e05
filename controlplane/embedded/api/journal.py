"""The recent changes of one resource, from which watches are fed.

Bounded in entries and bytes: a watch that is slower than that, or that resumes
from before, is told Expired and lists again. So no watcher has a queue of its own.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.cluster.api import Expired, Resource

MAX_CHANGES = 16_384
MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Image:
    """What selectors look at in one state of an object."""

    labels: Mapping[str, str]
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One change as committed. type is ADDED, MODIFIED or DELETED; raw is the object after it, or its last state."""

    resource: Resource
    version: int
    type: str
    namespace: str
    name: str
    raw: bytes
    before: Image | None
    after: Image | None


class Journal:
    """Changes of one resource in the order of their versions, with a bounded memory."""

    def __init__(self, floor: int, *, max_changes: int = MAX_CHANGES, max_bytes: int = MAX_BYTES) -> None:
        self._floor = floor
        self._first = 0
        self._changes: list[Change] = []
        self._bytes = 0
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._grown = asyncio.Event()

    def append(self, change: Change) -> None:
        """Take a change and wake the watchers."""
        self._changes.append(change)
        self._bytes += len(change.raw)
        if len(self._changes) > self._max_changes or self._bytes > self._max_bytes:
            self._drop(max(1, len(self._changes) // 4))
        self.wake()

    def _drop(self, count: int) -> None:
        dropped = self._changes[:count]
        self._floor = dropped[-1].version
        self._first += count
        self._bytes -= sum(len(change.raw) for change in dropped)
        del self._changes[:count]

    def wake(self) -> None:
        """Let all that wait look again."""
        self._grown.set()
        self._grown = asyncio.Event()

    @property
    def grown(self) -> asyncio.Event:
        """Set at the next change. Take it before reading, so that no change is missed."""
        return self._grown

    def position(self, version: int, newest: int) -> int:
        """Return where to read from for changes after version; raises Expired."""
        if version < self._floor or version > newest:
            raise Expired(f"too old resource version: {version} ({self._floor})")
        return self._first + bisect_right(self._changes, version, key=lambda change: change.version)

    def read(self, position: int, limit: int) -> list[Change]:
        """Return the changes from a position on; raises Expired if some are forgotten."""
        start = position - self._first
        if start < 0:
            raise Expired(f"the watch fell behind: changes up to version {self._floor} are forgotten")
        return self._changes[start : start + limit]
