"""What this replica saw of VNode Leases: since when each is unchanged, and how each that is gone ended.

Total: every question has an answer for every Lease, whatever happened to it meanwhile. A Lease that was never seen
counts as seen this moment, so that nobody takes it early.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace

from controlplane.domain import contract
from controlplane.domain.base import additions, releases
from controlplane.domain.objects import Lease
from controlplane.domain.ownership.lease import mark

ABSENT_REMEMBERED = 20_000
"""Most Leases that are gone whose last holder and fence are remembered; the one that went first is forgotten first."""


class LeaseRecords:
    """Records by namespace/name. now is the monotonic clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, tuple[Lease, float]] = {}
        """Each Lease when it last changed its mark, and since when it has that."""
        self._absent: OrderedDict[str, tuple[Lease | None, float]] = OrderedDict()

    def observe(self, key: str, lease: Lease | None) -> None:
        """Take note of a Lease as it is now; None: there is none."""
        if lease is None:
            if key in self._seen:
                self._end(key, self._seen.pop(key)[0])
        elif key not in self._seen or mark(self._seen[key][0]) != mark(lease):
            self._seen[key] = lease, self._now()

    def unchanged_since(self, lease: Lease) -> float:
        """Return since when a Lease was seen as it is; this moment if it was not."""
        seen, at = self._seen.get(f"{lease.namespace}/{lease.name}", (None, 0.0))
        return at if seen is not None and mark(seen) == mark(lease) else self._now()

    def last(self, key: str) -> Lease | None:
        """Return the last Lease of a key that ended, also while there is a new one; None: none was seen to end.

        Its fence is the highest that any Lease of that key had.
        """
        return self._absent.get(key, (None, 0.0))[0]

    def absent_since(self, key: str) -> float:
        """Return since when the last Lease of a key is gone; if none was seen to end, since this was first asked."""
        if key not in self._absent:
            self._remember(key, None)
        return self._absent[key][1]

    def note(self, key: str, records: Mapping[str, str]) -> None:
        """Remember newer records than a Lease had when it ended, by annotation."""
        lease, at = self._absent.get(key, (None, 0.0))
        if lease is not None and key not in self._seen:
            self._absent[key] = replace(lease, annotations={**lease.annotations, **records}), at

    def _end(self, key: str, lease: Lease) -> None:
        before = self.last(key) or lease
        # Whoever created the Lease again may not know the last one and begin lower; gateways remember the highest.
        self._remember(key, replace(lease, transitions=max(lease.transitions, before.transitions)))

    def _remember(self, key: str, lease: Lease | None) -> None:
        self._absent[key] = lease, self._now()
        self._absent.move_to_end(key)
        if len(self._absent) > ABSENT_REMEMBERED:
            self._absent.popitem(last=False)


def are_worth_keeping(annotations: Mapping[str, str]) -> bool:
    """Return whether the records in a Lease's annotations say anything of a base that may come back."""
    modules = releases.recorded(annotations.get(contract.ANNOTATION_OWNED_MODULES, ""))
    return bool(modules or additions.recorded(annotations.get(contract.ANNOTATION_NODE_ADDITIONS, "")))
