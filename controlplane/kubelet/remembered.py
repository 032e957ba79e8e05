"""Answers that are remembered for a while, boundedly many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values by key until their time is over; the one that was put in first is forgotten first when there are too many.

    now is monotonic seconds.
    """

    def __init__(self, now: Callable[[], float], *, most: int) -> None:
        self._now = now
        self._most = most
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return a value, None if it is not known or not known any more."""
        found = self._values.get(key)
        if found is None or found[0] <= self._now():
            return None
        return found[1]

    def put(self, key: K, value: V, seconds: float) -> None:
        """Remember a value."""
        self._values[key] = (self._now() + seconds, value)
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
