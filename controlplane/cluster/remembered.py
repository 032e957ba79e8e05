"""What is remembered for a while, boundedly much; cachetools has the same, and would be a dependency for this alone."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values by key until their time is over; when there are too many the one that was put first goes first."""

    def __init__(self, now: Callable[[], float], *, most: int) -> None:
        self._now = now
        self._most = most
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return a value, None if it is not known or not known any more."""
        until, value = self._values.get(key, (float("-inf"), None))
        return value if until > self._now() else None

    def put(self, key: K, value: V, seconds: float) -> None:
        """Remember a value."""
        self._values[key] = (self._now() + seconds, value)
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
