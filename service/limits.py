"""Limits for each peer: how many requests it may send, how many log lines it may cause; in bounded memory.

What is forgotten of a peer only ever is to its advantage. Times are the caller's monotonic seconds.
"""

from collections import OrderedDict
from typing import TypeVar

MAX_PEERS = 8_192

K = TypeVar("K")
V = TypeVar("V")


class Recent(OrderedDict[K, V]):
    """A dict of at most so many items: beyond that the one goes that was set longest ago."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


class LogLimit:
    """Lets one line for each peer through in so many seconds and counts the rest."""

    def __init__(self, interval: float, *, max_peers: int = MAX_PEERS) -> None:
        self._interval = interval
        self._last: Recent[str, tuple[float, int]] = Recent(max_peers)

    def admit(self, peer: str, now: float) -> int | None:
        """Return how many lines were held back since the last one, or None to hold this one back too."""
        at, held = self._last.get(peer, (float("-inf"), 0))
        if now - at < self._interval:
            self._last[peer] = (at, held + 1)
            return None
        self._last[peer] = (now, 0)
        return held


class RateLimit:
    """A token bucket for each peer: rate in requests a second, burst in requests."""

    def __init__(self, rate: float, burst: float, *, max_peers: int = MAX_PEERS) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: Recent[str, tuple[float, float]] = Recent(max_peers)

    def admit(self, peer: str, now: float) -> float:
        """Count a request; return 0, or in how many seconds the peer may come again."""
        tokens, since = self._buckets.get(peer, (self._burst, now))
        tokens = min(tokens + (now - since) * self._rate, self._burst)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[peer] = (tokens if wait else tokens - 1, now)
        return wait
