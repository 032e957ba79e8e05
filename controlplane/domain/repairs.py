"""How often the same is written again, because somebody else keeps changing it.

What is new is written at once. What says the same as the last write puts right what somebody else changed: the first
time at once, then less and less often. So two programs that disagree do not use up the API server.
"""

from dataclasses import dataclass

from controlplane.domain.backoff import Backoff

APART = Backoff(first=1.0, longest=60.0)
FORGOTTEN_AFTER = 120.0
"""Seconds after which a write may be repeated from which on it counts as the first one again."""
WORTH_SAYING = 4
"""Repairs in a row after which an Event is written."""


@dataclass(slots=True)
class Repairs:
    """The last write to one object. What it said is compared only; times are monotonic."""

    _what: object = None
    _times: int = -1
    _not_before: float = float("-inf")

    def held_until(self, what: object) -> float:
        """Return before when this is not to be written; minus infinity if it is new."""
        return self._not_before if what == self._what else float("-inf")

    def written(self, what: object, now: float, chance: float) -> int:
        """Note that this was written; return how many times in a row that was a repair. chance is in [0, 1)."""
        again = what == self._what and now < self._not_before + FORGOTTEN_AFTER
        self._times = self._times + 1 if again else 0
        self._what = what
        self._not_before = now + APART.delay(self._times, chance) if self._times else now
        return self._times

    def refused(self, what: object, until: float) -> None:
        """Note that the cluster refused this: until then it is not tried again."""
        self._what, self._times, self._not_before = what, -1, until
