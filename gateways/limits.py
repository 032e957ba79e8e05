"""A limit for each peer: how many requests it may send.

It remembers a bounded number of peers and forgets the one that was quiet longest,
which only ever is to the advantage of that peer. Times are the caller's monotonic
seconds.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_PEERS = 8_192


class RateLimit:
    """A token bucket for each peer: rate in requests a second, burst in requests."""

    def __init__(self, rate: float, burst: float, *, max_peers: int = MAX_PEERS) -> None:
        self._rate = rate
        self._burst = burst
        self._max_peers = max_peers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, peer: str, now: float) -> float:
        """Count a request; return 0, or in how many seconds the peer may come again."""
        tokens, since = self._buckets.get(peer, (self._burst, now))
        tokens = min(tokens + (now - since) * self._rate, self._burst)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[peer] = (tokens if wait else tokens - 1, now)
        self._buckets.move_to_end(peer)
        if len(self._buckets) > self._max_peers:
            self._buckets.popitem(last=False)
        return wait
