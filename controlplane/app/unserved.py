"""What bases that have no actor here reported last: bounded by number, fairly for all sources, and by time."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from controlplane.domain.facts import BatchInstalled, GatewayInfo, Heartbeat
from controlplane.domain.identity import BaseId

F = TypeVar("F", Heartbeat, BatchInstalled)

KEPT = 30.0
"""Seconds for which the heartbeat of a base that nobody here serves, or what it was given, is kept."""


MOST = 10_000
"""Bases of which something is kept, besides those that are known."""


@dataclass(frozen=True, slots=True)
class Unserved(Generic[F]):
    """What a base that has no actor here reported last; times are monotonic, since is when it was first heard of."""

    fact: F
    source: GatewayInfo
    at: float
    since: float = float("inf")

    @property
    def origin(self) -> str:
        """Where it came from: the peer over HTTP; else the gateway, since a broker hides who publishes."""
        peer = self.fact.way.peer if isinstance(self.fact, Heartbeat) else ""
        return f"{self.source.tunnel.value} {peer or self.source.gateway_id}"


class UnservedBases:
    """Heartbeats of bases that have no actor here.

    When there is no room, a source that has fewer than another one takes a place of that one's.
    """

    def __init__(self) -> None:
        self._last: dict[BaseId, Unserved[Heartbeat]] = {}
        self._origins: dict[str, dict[BaseId, None]] = {}

    def __len__(self) -> int:
        return len(self._last)

    @property
    def bases(self) -> Collection[BaseId]:
        """Who they are."""
        return self._last.keys()

    def get(self, base: BaseId) -> Unserved[Heartbeat] | None:
        """Return the last heartbeat of a base."""
        return self._last.get(base)

    def keep(self, base: BaseId, last: Unserved[Heartbeat], *, room: bool) -> bool:
        """Keep a heartbeat; return False if there is no room for one more base, and none can be made."""
        before = self.pop(base)
        if before is None and not room and not self._make_room(last.origin):
            return False
        self._last[base] = replace(last, since=before.since if before is not None else last.at)
        self._origins.setdefault(last.origin, {})[base] = None
        return True

    def pop(self, base: BaseId) -> Unserved[Heartbeat] | None:
        """Forget a base, and return its last heartbeat."""
        last = self._last.pop(base, None)
        if last is not None:
            of_origin = self._origins[last.origin]
            del of_origin[base]
            if not of_origin:
                del self._origins[last.origin]
        return last

    def sweep(self, now: float) -> None:
        """Forget what is too old."""
        for base in [base for base, last in self._last.items() if now - last.at >= KEPT]:
            self.pop(base)

    def _make_room(self, origin: str) -> bool:
        largest = max(self._origins.values(), key=len, default={})
        if len(largest) <= len(self._origins.get(origin, ())) + 1:
            return False
        self.pop(next(reversed(largest)))
        return True
