"""Which replica gets what of which base. Pure; the caller brings the time.

A fence is a base's leaseTransitions. It only ever rises, so of two replicas that speak of one base the one with the
higher fence owns it; the lower one is refused.
"""

from service.limits import Recent

MAX_BASES = 65_536
"""Most bases whose fence is remembered; the one not spoken of for longest is forgotten first."""
GRACE = 60.0
RENEWAL = 10.0
"""Seconds."""


class Routing:
    """The highest fence of each base, the replica that owns it, and the replica that watches it.

    A base stays watched for ``GRACE`` seconds after the stream to its replica was lost, since the stream mostly comes
    back; a replica sends all its Watches again on each stream, and what is not among them ``RENEWAL`` seconds after
    Welcome is not watched any more.
    """

    def __init__(self) -> None:
        self._fences: Recent[str, int] = Recent(MAX_BASES)
        self._owners: dict[str, str] = {}
        self._watchers: dict[str, tuple[str, float]] = {}
        """By base: the replica, and when its Watch ends unless it comes again."""

    @property
    def watched(self) -> int:
        """How many bases are watched."""
        return len(self._watchers)

    def fence(self, base: str) -> int:
        """Return the highest fence seen for a base, 0 when none was."""
        return self._fences.get(base, 0)

    def owner(self, base: str) -> str:
        """Return the replica that owns the base, empty if none does."""
        return self._owners.get(base, "")

    def watcher(self, base: str) -> str:
        """Return the replica that watches the base, empty if none does."""
        return self._watchers.get(base, ("", 0.0))[0]

    def admit(self, base: str, fence: int) -> bool:
        """Take note of a fence; False when a higher one was seen. What follows is for fences that were admitted."""
        if fence < self.fence(base):
            return False
        self._fences[base] = fence
        return True

    def claim(self, base: str, replica: str) -> None:
        """The replica owns the base."""
        self._owners[base] = replica

    def release(self, base: str, replica: str) -> None:
        """The replica gave the base up; without effect when another one owns it by now."""
        if self.owner(base) == replica:
            del self._owners[base]

    def disown(self, replica: str) -> None:
        """Forget what a replica owns that cannot be reached: its bases are announced to all."""
        self._owners = {base: owner for base, owner in self._owners.items() if owner != replica}

    def watch(self, base: str, replica: str) -> None:
        """The replica watches the base."""
        self._watchers[base] = replica, float("inf")

    def unwatch(self, base: str, replica: str) -> bool:
        """Drop the Watch of a base if it is this replica's; return whether it was."""
        if self.watcher(base) != replica:
            return False
        del self._watchers[base]
        return True

    def welcomed(self, replica: str, now: float) -> None:
        """Expect all Watches of a replica again."""
        self._expect(replica, now + RENEWAL)

    def lost(self, replica: str, now: float) -> None:
        """The stream to a replica ended: it owns nothing, and the grace of its Watches begins."""
        self.disown(replica)
        self._expect(replica, now + GRACE)

    def _expect(self, replica: str, deadline: float) -> None:
        of_replica = [base for base, (watcher, _) in self._watchers.items() if watcher == replica]
        self._watchers.update(dict.fromkeys(of_replica, (replica, deadline)))

    def expire(self, now: float) -> list[str]:
        """Remove the Watches that were not renewed in time; return their bases."""
        gone = [base for base, (_, deadline) in self._watchers.items() if deadline <= now]
        for base in gone:
            del self._watchers[base]
        return gone
