"""Which base has which address and port: one at a time, as heartbeats come.

Many identities at one place would have us call it as often as there are identities. Times are monotonic seconds of the
caller.
"""

from dataclasses import dataclass, field

from service.limits import Recent

MOST_PLACES = 20_000

Place = tuple[str, int]


@dataclass(slots=True)
class Places:
    """The last base that was taken at each place, and when."""

    _holders: Recent[Place, tuple[str, float]] = field(default_factory=lambda: Recent(MOST_PLACES), init=False)

    def holder(self, place: Place) -> tuple[str, float]:
        """Return who has a place, and the time of its last heartbeat; an empty name if nobody has it."""
        return self._holders.get(place, ("", float("-inf")))

    def take(self, place: Place, base: str, now: float) -> None:
        """Take note of a heartbeat of a base at a place."""
        self._holders[place] = base, now
