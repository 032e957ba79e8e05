"""What this replica saw of VNode Leases: since when each is unchanged, and how each that is gone ended.

Total: every question has an answer for every Lease, whatever happened to it meanwhile. A Lease that was never seen
counts as seen this moment, so that nobody takes it early.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from controlplane.domain import contract
from controlplane.domain.objects import Lease

ENDED_REMEMBERED = 20_000
"""Most Leases that are gone whose last holder and fence are remembered; the one that went first is forgotten first."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A Lease that is gone: who held it with which fence, and when that was seen, on the monotonic clock.

    modules is the record of installed modules that it had, None if it had none.
    """

    holder: str
    fence: int
    seen_at: float
    modules: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    holder: str
    fence: int
    renew_time: str
    at: float
    modules: str | None


class LeaseRecords:
    """Records by namespace/name. now is the monotonic clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._ended: OrderedDict[str, Ended] = OrderedDict()

    def observe(self, key: str, lease: Lease | None) -> None:
        """Take note of a Lease as it is now; None: there is none."""
        seen = self._seen.get(key)
        if lease is None:
            if seen is not None:
                del self._seen[key]
                self._end(key, Ended(seen.holder, seen.fence, self._now(), seen.modules))
        elif seen is None or (seen.holder, seen.fence, seen.renew_time) != _mark(lease):
            self._seen[key] = _Seen(*_mark(lease), self._now(), recorded_modules(lease))

    def unchanged_since(self, lease: Lease) -> float:
        """Return since when a Lease was seen as it is; this moment if it was not."""
        seen = self._seen.get(f"{lease.namespace}/{lease.name}")
        return self._now() if seen is None or (seen.holder, seen.fence, seen.renew_time) != _mark(lease) else seen.at

    def ended(self, key: str) -> Ended | None:
        """Return how the last Lease of a key ended, None if that was not seen; also while there is a new one."""
        return self._ended.get(key)

    def note_modules(self, key: str, modules: str) -> None:
        """Remember a newer record of installed modules than a Lease had when it ended."""
        ended = self._ended.get(key)
        if ended is not None and key not in self._seen:
            self._ended[key] = replace(ended, modules=modules)

    def _end(self, key: str, ended: Ended) -> None:
        before = self._ended.pop(key, None)
        # Whoever created the Lease again may not know the last one and begin lower; gateways remember the highest.
        self._ended[key] = replace(ended, fence=max(ended.fence, before.fence if before else 0))
        if len(self._ended) > ENDED_REMEMBERED:
            self._ended.popitem(last=False)


def recorded_modules(lease: Lease) -> str | None:
    """Return the record of installed modules that a Lease has, None if it has none."""
    return lease.annotations.get(contract.ANNOTATION_OWNED_MODULES)


def _mark(lease: Lease) -> tuple[str, int, str]:
    """Return what changes with every renewal, and only with the holder's consent."""
    return lease.holder, lease.transitions, lease.renew_time
