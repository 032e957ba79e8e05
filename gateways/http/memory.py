"""Bytes of answers under way: one bound for the process, shared out so that small answers always have room.

Each answer begins with a small share and asks for more as it grows. Where there is no more the largest answer gives
way: bases that send much and do not end are cut to small parts, and never keep an ordinary answer out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_SHARE = 16 << 10
"""Bytes that every answer has; polls and orders under way are bounded, so these are not part of the bound."""
STEP = 256 << 10
"""Bytes by which a share grows at most; a smaller one doubles."""
TOTAL = 32 << 20
"""Bytes that all answers have beyond their first shares."""


class NoRoom(Exception):
    """The largest answer is this one, and there is no room for more of it."""


@dataclass(eq=False, slots=True)
class Share:
    """What one answer may hold. cut ends the answer, and is called when it has to give way to others."""

    memory: "AnswerMemory"
    cut: Callable[[], None]
    more: int = 0
    """Bytes beyond the first share."""

    def need(self, size: int) -> None:
        """Make room for an answer of size bytes. Raises NoRoom."""
        held = FIRST_SHARE + self.more
        if size > held:
            self.memory.enlarge(self, max(size, held + min(held, STEP)) - FIRST_SHARE)

    def close(self) -> None:
        """Give everything back; may repeat."""
        self.memory.release(self)


@dataclass(slots=True)
class AnswerMemory:
    """The bytes of all answers. total is a bound, in bytes."""

    total: int = TOTAL
    used: int = field(default=0, init=False)
    _shares: set[Share] = field(default_factory=set, init=False)

    def share(self, cut: Callable[[], None]) -> Share:
        """Return the share of a new answer, to be closed at its end."""
        return Share(self, cut)

    def enlarge(self, share: Share, more: int) -> None:
        """Give a share more bytes beyond its first ones in all. Raises NoRoom."""
        while self.used - share.more + more > self.total:
            others = self._shares - {share}
            largest = max(others, key=lambda each: each.more, default=None)
            if largest is None or largest.more < more:
                raise NoRoom
            self.release(largest)
            largest.cut()
        self.used += more - share.more
        share.more = more
        self._shares.add(share)

    def release(self, share: Share) -> None:
        """Take back what a share has."""
        self.used -= share.more
        share.more = 0
        self._shares.discard(share)
