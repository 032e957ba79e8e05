"""When a base made what it reports, by our clock; and which epoch a module list may carry.

Answers over MQTT say nothing about the question that they belong to, so a list is never matched with a question. It is
judged by *when the base made it*: a list made after an epoch came into force is an answer for that epoch, whoever
asked.

What is known of that moment is the base's own time stamp. Every message gives a lower bound of how far the base's clock
is ahead of ours: it was stamped before it arrived, so ahead >= stamp - arrival. The largest of these bounds over the
last ``WINDOW`` seconds, the list's own included, turns a stamp into a time that is never too early, and too late by no
more than the shortest transit among them. ``GUARD`` covers that transit, the pause of a JVM between looking at its
modules and stamping what it saw, and the grain of the stamps. Where nothing else is known of the clock yet, a list
counts for no epoch.

The error is one-sided. A clock that is set back, or a path that becomes slow, makes lists look older than they are,
which costs another question, for at most ``WINDOW`` seconds. A clock that is set forward gives itself away at once.
"""

from collections import deque
from dataclasses import dataclass

from service.limits import Recent

GUARD = 1.0
"""Seconds after an epoch came into force from which on lists count for it."""
WINDOW = 60.0
"""Seconds for which a bound of a clock counts."""
MAX_CLOCKS = 65_536
KEPT_EPOCHS = 8


@dataclass(slots=True)
class _Clock:
    """Largest bounds of the half window that runs since ``since``, and of the one before it."""

    before: float
    bound: float
    since: float
    seen_at: float


class Clocks:
    """The clocks of bases. Stamps are in seconds by a base's clock, everything else by ours."""

    def __init__(self) -> None:
        self._clocks: Recent[str, _Clock] = Recent(MAX_CLOCKS)

    def made_at(self, base: str, stamp: float, now: float) -> float | None:
        """Return when something that just came was stamped, at the earliest; None while that is not known."""
        own = stamp - now
        clock = self._clocks.get(base)
        if clock is None or now - clock.seen_at > WINDOW / 2:
            self._clocks[base] = _Clock(own, own, now, now)
            return None
        clock.seen_at = now
        if now - clock.since > WINDOW / 2:
            clock.before, clock.bound, clock.since = clock.bound, own, now
        clock.bound = max(clock.bound, own)
        self._clocks.move_to_end(base)
        return stamp - max(clock.before, clock.bound)


class Epochs:
    """The epochs of the Watches of one base under one fence, and since when each is in force."""

    def __init__(self, fence: int, epoch: int, now: float) -> None:
        self.fence = fence
        self.last_stamp = float("-inf")
        """When the last list was published, in seconds by the base's clock."""
        self._since: deque[tuple[int, float]] = deque([(epoch, now)], maxlen=KEPT_EPOCHS)

    @property
    def current(self) -> int:
        """The epoch in force."""
        return self._since[-1][0]

    def begin(self, epoch: int, now: float) -> None:
        """A Watch came; one with the same epoch changes nothing."""
        if epoch != self.current:
            self._since.append((epoch, now))

    def of(self, made_at: float | None) -> int:
        """Return the epoch of a list made then: the highest that was surely in force before, else 0."""
        if made_at is None:
            return 0
        return max((epoch for epoch, since in self._since if since + GUARD <= made_at), default=0)
