"""Delays between attempts: doubling, capped, jittered."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds: the first delay, the longest, and the share of each that chance may add."""

    first: float
    longest: float
    jitter: float = 0.2

    def delay(self, attempts: int, chance: float) -> float:
        """Return the delay after so many failed attempts (1 or more); chance is in [0, 1)."""
        doublings = min(max(attempts, 1) - 1, 32)
        return min(self.first * 2.0**doublings, self.longest) * (1 + self.jitter * chance)


CRASH_LOOP = Backoff(first=10.0, longest=300.0)
"""Between attempts to install a module that fails, as a kubelet does it."""
CONTEXT_PATH = Backoff(first=300.0, longest=300.0)
"""Between attempts to install a module whose web context path another one has: each costs the base a download."""
QUICK = Backoff(first=1.0, longest=30.0)
"""Between attempts that were refused before they had any effect."""
LOOK_AGAIN = Backoff(first=3.0, longest=30.0, jitter=1.0)
"""Between orders on a module of which base and list say different things, or with which the base is busy."""
