"""Who holds the Leases of VNodes: counted as they change, so that nobody has to read all of them."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter

from controlplane.app.ports import Cluster


class HeldLeases:
    """The Leases in order, and how many each replica holds."""

    def __init__(self, cluster: Cluster) -> None:
        self.counts: Counter[str] = Counter()
        """How many Leases each replica holds; only those that hold some."""
        self._leases = cluster.leases
        self._holders: dict[str, str] = {}
        self._keys: list[str] = []
        for lease in self._leases.all():
            self._changed(f"{lease.namespace}/{lease.name}")
        self._leases.subscribe(self._changed)

    def after(self, key: str, most: int) -> list[str]:
        """Return so many keys of Leases, namespace/name, in order, that come after one."""
        first = bisect_right(self._keys, key)
        return self._keys[first : first + most]

    def _changed(self, key: str) -> None:
        lease, before = self._leases.get(key), self._holders.get(key)
        holder = lease.holder if lease is not None else None
        if holder == before:
            return
        if before is None:
            insort(self._keys, key)
        if holder is None:
            del self._holders[key], self._keys[bisect_left(self._keys, key)]
        else:
            self._holders[key] = holder
        for name, step in ((before, -1), (holder, 1)):
            if name:
                self.counts[name] += step
                if not self.counts[name]:
                    del self.counts[name]
