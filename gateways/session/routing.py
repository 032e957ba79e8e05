"""Which replica gets what. Pure; the caller brings the time.

A fence is a base's leaseTransitions. It only ever rises, so of two replicas that
speak of one base the one with the higher fence owns it; the lower one is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateways.session.messages import Watch

MAX_BASES = 65_536
"""Most bases whose fence is remembered; the one not spoken of for longest is forgotten first."""


class Fences:
    """The highest fence seen for each base."""

    def __init__(self, max_bases: int = MAX_BASES) -> None:
        self._max = max_bases
        self._highest: OrderedDict[str, int] = OrderedDict()

    def highest(self, base: str) -> int:
        """Return the highest fence seen for a base, 0 when none was."""
        return self._highest.get(base, 0)

    def admit(self, base: str, fence: int) -> bool:
        """Take note of a fence; False when a higher one was seen."""
        if fence < self._highest.get(base, 0):
            return False
        self._highest[base] = fence
        self._highest.move_to_end(base)
        if len(self._highest) > self._max:
            self._highest.popitem(last=False)
        return True


class Claims:
    """Which replica owns which base."""

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}

    def claim(self, base: str, replica: str) -> None:
        """The replica owns the base; its fence has been admitted."""
        self._owner[base] = replica

    def release(self, base: str, replica: str) -> None:
        """The replica gave the base up; without effect when another one owns it by now."""
        if self._owner.get(base) == replica:
            del self._owner[base]

    def lost(self, replica: str) -> None:
        """Forget the claims of a replica that cannot be reached: its bases are announced to all."""
        self._owner = {base: owner for base, owner in self._owner.items() if owner != replica}

    def owner(self, base: str) -> str | None:
        """Return the replica that owns the base, or None."""
        return self._owner.get(base)


@dataclass(frozen=True, slots=True)
class _Watched:
    replica: str
    watch: Watch
    session: int


class Watches:
    """Who asked for which base to be polled, and for how long that holds without its stream.

    A base stays watched for ``grace`` seconds after the stream to its replica was
    lost, since the stream mostly comes back; a replica sends all its Watches again
    on each stream, and what is not among them ``renewal`` seconds after Welcome is
    not watched any more.
    """

    def __init__(self, *, grace: float = 60.0, renewal: float = 10.0) -> None:
        self._grace = grace
        self._renewal = renewal
        self._watched: dict[str, _Watched] = {}
        self._session: dict[str, int] = {}
        self._deadline: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def put(self, replica: str, watch: Watch) -> None:
        """Add or replace the Watch of a base; its fence has been admitted."""
        self._watched[watch.base] = _Watched(replica, watch, self._session.get(replica, 0))

    def remove(self, base: str, replica: str) -> bool:
        """Drop the Watch of a base if it is this replica's; tell whether it was."""
        watched = self._watched.get(base)
        if watched is None or watched.replica != replica:
            return False
        del self._watched[base]
        return True

    def replica(self, base: str) -> str | None:
        """Return who watches the base, or None."""
        watched = self._watched.get(base)
        return None if watched is None else watched.replica

    def lost(self, replica: str, now: float) -> None:
        """Begin the grace of a replica whose stream ended."""
        self._session[replica] = self._session.get(replica, 0) + 1
        self._deadline[replica] = now + self._grace

    def welcomed(self, replica: str, now: float) -> None:
        """Expect all Watches of a replica again."""
        self._session[replica] = self._session.get(replica, 0) + 1
        self._deadline[replica] = now + self._renewal

    def expire(self, now: float) -> list[str]:
        """Remove the Watches that were not renewed in time; return their bases."""
        due = {replica for replica, deadline in self._deadline.items() if deadline <= now}
        if not due:
            return []
        for replica in due:
            del self._deadline[replica]
        gone = [
            base
            for base, watched in self._watched.items()
            if watched.replica in due and watched.session != self._session[watched.replica]
        ]
        for base in gone:
            del self._watched[base]
        return gone
