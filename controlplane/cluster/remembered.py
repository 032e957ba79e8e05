"""What is remembered for a while, boundedly much; cachetools has the same, and would be a dependency for this alone."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from service.limits import Recent

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values by key until their time is over; when there are too many the one that was put first goes first."""

    def __init__(self, now: Callable[[], float], *, most: int) -> None:
        self._now = now
        self._values: Recent[K, tuple[float, V]] = Recent(most)

    def get(self, key: K) -> V | None:
        """Return a value, None if it is not known or not known any more."""
        until, value = self._values.get(key, (float("-inf"), None))
        return value if until > self._now() else None

    def put(self, key: K, value: V, seconds: float) -> None:
        """Remember a value."""
        self._values[key] = (self._now() + seconds, value)
