"""The open connections of one listener, and who has to make room. Pure.

Strangers must not lock out the health probes of a node or Prometheus, also not from behind the same address. So a new
connection is not refused while there are idle ones, which have not sent a request yet: the oldest of these goes, of the
same peer where that one has its share, else of the peer that has the most idle ones.
"""

import ipaddress
from collections import Counter
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Generic, TypeVar

C = TypeVar("C", bound=Hashable)

KEPT = 16_384
"""Addresses of which it is known whom they stand for: those that came last."""
_NETWORK_OF_PEER = 64
"""Bits of an IPv6 address that name a peer: a network gives a machine any number of addresses below them."""


def peer_of(address: Any) -> str:
    """Return who a peer's socket address stands for; empty for a Unix socket, whose peers are this machine's."""
    if not isinstance(address, tuple):
        return ""
    return _peer(str(address[0]).partition("%")[0])


@lru_cache(KEPT)
def _peer(address: str) -> str:
    host = ipaddress.ip_address(address)
    if host.version == 4 or host.is_loopback:
        return str(host)
    if host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return str(ipaddress.ip_network((host, _NETWORK_OF_PEER), strict=False))


class Connections(Generic[C]):
    """At most so many connections, in all and of one peer; those of the peer "" count in all alone."""

    def __init__(self, most: int, of_peer: int) -> None:
        self._most = most
        self._of_peer = of_peer
        self._peers: dict[C, str] = {}
        self._idle: dict[str, dict[C, None]] = {}
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._peers)

    def open(self, connection: C, peer: str) -> C | None:
        """Take a new, idle connection; return the one that must be closed for it, which may be itself."""
        full_of_peer = bool(peer) and self._of[peer] >= self._of_peer
        if not full_of_peer and len(self) < self._most:
            self._add(connection, peer)
            return None
        victim = self.oldest_idle(peer) if full_of_peer else self.oldest_idle()
        if victim is None:
            return connection
        self.close(victim)
        self._add(connection, peer)
        return victim

    def oldest_idle(self, peer: str | None = None) -> C | None:
        """Return the idle connection that is the oldest of a peer, or of the one with the most; None without any."""
        if peer is None:
            peer = max(self._idle, key=lambda each: len(self._idle[each]), default="")
        return next(iter(self._idle.get(peer, ())), None)

    def busy(self, connection: C) -> None:
        """Note that a connection has sent a request: it makes no room from now on."""
        self._forget_idle(connection)

    def close(self, connection: C) -> None:
        """Note the end of a connection; one that is not there counts for nothing."""
        self._forget_idle(connection)
        peer = self._peers.pop(connection, None)
        if peer is not None:
            self._of[peer] -= 1
            if not self._of[peer]:
                del self._of[peer]

    def _add(self, connection: C, peer: str) -> None:
        self._peers[connection] = peer
        self._idle.setdefault(peer, {})[connection] = None
        self._of[peer] += 1

    def _forget_idle(self, connection: C) -> None:
        peer = self._peers.get(connection, "")
        idle = self._idle.get(peer, {})
        idle.pop(connection, None)
        if not idle:
            self._idle.pop(peer, None)
