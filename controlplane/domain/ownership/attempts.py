"""When this replica tries to take which base.

Replicas share out the bases of one that is gone without a word: each finds the same order of replicas for a base. Their
views may differ for a moment, so that two try one base, which its Lease decides, or none does. And the first one may be
dead, though nobody knows yet. So the next one steps in where the one before it takes nothing for ``STEP_IN_AFTER``;
``PATIENCE`` where this replica took nothing either meanwhile, for then it may be the cluster that is slow. Only bases
that are shared out count, each once: new ones and gifts may come without end.
"""

from collections.abc import Collection
from dataclasses import dataclass

from controlplane.domain.identity import BaseId

STEP_IN_AFTER = 0.3
"""Seconds after the last base that was taken, after which the next replica steps in."""
PATIENCE = 1.0
"""Seconds after which it does where nothing was taken."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """This replica tries to take a base, and why: at is from when on, on its monotonic clock.

    left_to is the replica that is to take a base first that is shared out, empty for others; place is this one's place
    among those that step in, 0 for the first.
    """

    at: float
    why: str
    left_to: str = ""
    place: int = 0


class Attempts:
    """What one replica, me, is to try. All times are seconds of its monotonic clock."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._attempts: dict[BaseId, Attempt] = {}
        self._took_at: dict[str, float] = {me: float("-inf")}
        """When this replica, and those that bases were left to, were last seen to take one that is shared out."""
        self._shared: set[BaseId] = set()
        """The bases that are shared out and not yet taken."""

    @property
    def bases(self) -> Collection[BaseId]:
        """The bases that it is to try."""
        return self._attempts.keys()

    def left_to(self, base: BaseId) -> str:
        """Return the replica that a base was left to, empty where there is none."""
        attempt = self._attempts.get(base)
        return attempt.left_to if attempt is not None else ""

    def put(self, base: BaseId, attempt: Attempt | None) -> None:
        """Have it try a base; of two attempts the earlier one counts. None: it is not to try any more."""
        if attempt is None:
            self._attempts.pop(base, None)
            return
        if attempt.left_to:
            self._shared.add(base)
            self._took_at.setdefault(attempt.left_to, float("-inf"))
        known = self._attempts.get(base)
        if known is None or self._due_at(attempt) < self._due_at(known):
            self._attempts[base] = attempt

    def took(self, base: BaseId, replica: str, now: float) -> None:
        """Note that the lease of a base is a replica's now, or another holder's, or gone."""
        if base in self._shared and replica in self._took_at:
            self._took_at[replica] = now
        self._shared.discard(base)

    def due(self, now: float) -> dict[BaseId, str]:
        """Return the bases that it is to try now, and why, and forget these attempts."""
        due = {base: attempt.why for base, attempt in self._attempts.items() if self._due_at(attempt) <= now}
        for base in due:
            del self._attempts[base]
        return due

    def next_at(self, default: float) -> float:
        """Return when the next attempt is due."""
        return min(map(self._due_at, self._attempts.values()), default=default)

    def clear(self) -> None:
        """Forget all: the replicas are others now."""
        self._attempts.clear()
        self._took_at = {self._me: float("-inf")}
        self._shared.clear()

    def _due_at(self, attempt: Attempt) -> float:
        if attempt.left_to in ("", self._me):
            return attempt.at
        last = max(self._took_at[attempt.left_to], self._took_at[self._me])
        wait = STEP_IN_AFTER if last >= attempt.at else PATIENCE
        return max(attempt.at, last) + wait * (1 + attempt.place)
