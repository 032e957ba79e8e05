"""A limit for each peer: how many log lines it may cause.

It remembers a bounded number of peers and forgets the one that was quiet longest,
which only ever is to the advantage of that peer. Times are the caller's monotonic
seconds.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_PEERS = 8_192


class LogLimit:
    """Lets one line for each peer through in so many seconds and counts the rest."""

    def __init__(self, interval: float, *, max_peers: int = MAX_PEERS) -> None:
        self._interval = interval
        self._max_peers = max_peers
        self._last: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def admit(self, peer: str, now: float) -> int | None:
        """Return how many lines were held back since the last one, or None to hold this one back too."""
        at, held = self._last.get(peer, (float("-inf"), 0))
        if now - at < self._interval:
            self._last[peer] = (at, held + 1)
            return None
        self._last[peer] = (now, 0)
        self._last.move_to_end(peer)
        if len(self._last) > self._max_peers:
            self._last.popitem(last=False)
        return held
