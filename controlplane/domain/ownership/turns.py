"""When this replica tries to take which base.

Replicas share out the bases of one that is gone without a word: each finds the same order of replicas for a base. Their
views may differ for a moment, so that two try one base, which its Lease decides, or none does. And the first one may be
dead, though nobody knows yet. So the next one steps in where the one before it takes nothing for ``STEP_IN_AFTER``;
``PATIENCE`` where this replica took nothing either meanwhile, for then it may be the cluster that is slow.
"""

from collections.abc import Collection
from dataclasses import dataclass

from controlplane.domain.identity import BaseId

STEP_IN_AFTER = 0.3
"""Seconds after the last base that was taken, after which the next replica steps in."""
PATIENCE = 1.0
"""Seconds after which it does where nothing was taken."""


@dataclass(frozen=True, slots=True)
class Turn:
    """This replica tries to take a base, and why: at is from when on, on its monotonic clock.

    left_to is the replica that is to take the base first, empty: this one; place is this one's place among the others,
    0 for the first.
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
        self._took_at: dict[str, float] = {me: float("-inf")}
        """When this replica, and those that bases were left to, were last seen to take one."""

    @property
    def bases(self) -> Collection[BaseId]:
        """The bases that have a turn."""
        return self._turns.keys()

    def left_to(self, base: BaseId) -> str:
        """Return the replica that a base was left to, empty where there is none."""
        turn = self._turns.get(base)
        return turn.left_to if turn is not None else ""

    def put(self, base: BaseId, turn: Turn | None) -> None:
        """Have a base wait for a turn; of two the earlier one counts. None: it has no turn any more."""
        if turn is None:
            self._turns.pop(base, None)
            return
        self._took_at.setdefault(turn.left_to or self._me, float("-inf"))
        known = self._turns.get(base)
        if known is None or self._due_at(turn) < self._due_at(known):
            self._turns[base] = turn

    def took(self, replica: str, now: float) -> None:
        """Note that a replica, or another holder, has taken a base."""
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
        self._took_at = {self._me: float("-inf")}

    def _due_at(self, turn: Turn) -> float:
        if not turn.left_to:
            return turn.at
        last = max(self._took_at[turn.left_to], self._took_at[self._me])
        wait = STEP_IN_AFTER if last >= turn.at else PATIENCE
        return max(turn.at, last) + wait * (1 + turn.place)
