"""What this replica saw of VNode Leases: since when each is unchanged, and how each that is gone ended.

Total: every question has an answer for every Lease, whatever happened to it meanwhile. A Lease that was never seen
counts as seen this moment, so that nobody takes it early.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from controlplane.domain import contract
from controlplane.domain.objects import Lease

ENDED_REMEMBERED = 20_000
"""Most Leases that are gone whose last holder and fence are remembered; the one that went first is forgotten first."""


@dataclass(frozen=True, slots=True)
class DeletedLease:
    """Who held a Lease that is gone with which fence, and when that was seen, on the monotonic clock.

    modules is the record of installed modules that it had, None if it had none.
    """

    holder: str
    fence: int
    seen_at: float
    modules: str | None = None


class LeaseRecords:
    """Records by namespace/name. now is the monotonic clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, tuple[Lease, float]] = {}
        """Each Lease when it last changed its mark, and since when it has that."""
        self._ended: OrderedDict[str, DeletedLease] = OrderedDict()

    def observe(self, key: str, lease: Lease | None) -> None:
        """Take note of a Lease as it is now; None: there is none."""
        if lease is None:
            if key in self._seen:
                self._end(key, self._seen.pop(key)[0])
        elif key not in self._seen or _mark(self._seen[key][0]) != _mark(lease):
            self._seen[key] = lease, self._now()

    def unchanged_since(self, lease: Lease) -> float:
        """Return since when a Lease was seen as it is; this moment if it was not."""
        seen, at = self._seen.get(f"{lease.namespace}/{lease.name}", (None, 0.0))
        return at if seen is not None and _mark(seen) == _mark(lease) else self._now()

    def ended(self, key: str) -> DeletedLease | None:
        """Return how the last Lease of a key ended, None if that was not seen; also while there is a new one."""
        return self._ended.get(key)

    def note_modules(self, key: str, modules: str) -> None:
        """Remember a newer record of installed modules than a Lease had when it ended."""
        ended = self._ended.get(key)
        if ended is not None and key not in self._seen:
            self._ended[key] = replace(ended, modules=modules)

    def _end(self, key: str, lease: Lease) -> None:
        before = self._ended.pop(key, None)
        # Whoever created the Lease again may not know the last one and begin lower; gateways remember the highest.
        fence = max(lease.transitions, before.fence if before else 0)
        self._ended[key] = DeletedLease(lease.holder, fence, self._now(), recorded_modules(lease))
        if len(self._ended) > ENDED_REMEMBERED:
            self._ended.popitem(last=False)


def recorded_modules(lease: Lease) -> str | None:
    """Return the record of installed modules that a Lease has, None if it has none."""
    return lease.annotations.get(contract.ANNOTATION_OWNED_MODULES)


def _mark(lease: Lease) -> tuple[str, int, str]:
    """Return what changes with every renewal, and only with the holder's consent."""
    return lease.holder, lease.transitions, lease.renew_time
