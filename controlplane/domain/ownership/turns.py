"""When this replica tries to take which base.

The bases of a replica that is gone are shared out by each of the others for itself (``replicas.assigned``). Their views
of the leases may differ for a moment, so that two try one base, which its Lease decides, or none does. So what was left
to another replica is taken by the next one once that has taken nothing for ``STEP_IN_AFTER``. While this replica has
bases of its own share to take, the cluster may just be slow: it leaves the others' for ``PATIENCE`` then.
"""

from collections.abc import Collection
from dataclasses import dataclass

from controlplane.domain.identity import BaseId

STEP_IN_AFTER = 0.5
"""Seconds without a base taken by the replica that was to take one, after which the next replica takes it."""
PATIENCE = 2.0
"""The same, while this replica itself still has bases to take."""


@dataclass(frozen=True, slots=True)
class Turn:
    """This replica tries to take a base, at a time on its monotonic clock, and why.

    left_to names the replica that is to take it; at is when it was left to that one then, and place this replica's
    place among those that step in, 0 for the first.
    """

    at: float
    why: str
    left_to: str = ""
    place: int = 0


class Turns:
    """The turns of one replica, me. All times are seconds of its monotonic clock."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._turns: dict[BaseId, Turn] = {}
        self._taking: set[BaseId] = set()
        """Bases of our share whose lease is not ours yet."""
        self._took_at: dict[str, float] = {}
        """Since when each replica that bases were left to has taken none."""

    @property
    def bases(self) -> Collection[BaseId]:
        """The bases that have a turn."""
        return self._turns.keys()

    def left_to(self, base: BaseId) -> str:
        """Return the replica that is to take a base of one that is gone, empty if it was left to nobody yet."""
        turn = self._turns.get(base)
        if turn is not None and turn.left_to:
            return turn.left_to
        return self._me if base in self._taking else ""

    def put(self, base: BaseId, turn: Turn | None) -> None:
        """Have a base wait for a turn; of two the earlier one counts. None: it has no turn any more."""
        known = self._turns.get(base)
        if turn is None:
            self._turns.pop(base, None)
        elif known is None or self._due_at(turn) < self._due_at(known):
            self._turns[base] = turn
            if turn.left_to == self._me:
                self._taking.add(base)
            elif turn.left_to:
                self._took_at.setdefault(turn.left_to, turn.at)

    def took(self, base: BaseId, replica: str, now: float) -> None:
        """Note that the lease of a base is a replica's now, or another holder's."""
        self._taking.discard(base)
        if replica in self._took_at:
            self._took_at[replica] = now

    def due(self, now: float) -> dict[BaseId, str]:
        """Return the bases whose turn it is, and why, and forget these turns."""
        due = {base: turn.why for base, turn in self._turns.items() if self._due_at(turn) <= now}
        for base in due:
            del self._turns[base]
        return due

    def next_at(self, default: float) -> float:
        """Return when the next turn is due."""
        return min(map(self._due_at, self._turns.values()), default=default)

    def clear(self) -> None:
        """Forget all turns: the replicas are others now."""
        self._turns.clear()
        self._taking.clear()
        self._took_at.clear()

    def _due_at(self, turn: Turn) -> float:
        if turn.left_to in ("", self._me):
            return turn.at
        wait = PATIENCE if self._taking else STEP_IN_AFTER
        return max(turn.at, self._took_at[turn.left_to]) + wait * (1 + turn.place)
