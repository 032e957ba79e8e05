"""Up to when bases were heard. What comes late is no silence, be it a gateway or this program that is behind."""

from dataclasses import dataclass

LOOK_AGAIN = 1.0
"""Seconds after which is looked again whether everything is heard that may end a silence."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What arrives of what bases say, through one gateway or over one tunnel. Times are monotonic seconds."""

    since: float = float("-inf")
    """Since when nothing was lost on the way, as far as is known."""
    until: float = float("inf")
    """Up to when everything has arrived."""

    def both(self, other: "Heard") -> "Heard":
        """Return what arrives where one of the two may have what is missing."""
        return Heard(max(self.since, other.since), min(self.until, other.until))


def look_at(due_at: float, now: float) -> float:
    """Return when to look whether everything was heard up to due_at."""
    return due_at if now < due_at else now + LOOK_AGAIN
