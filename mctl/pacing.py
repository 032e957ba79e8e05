"""When to try again and when to look again: pauses grow, are jittered and capped."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from mctl.errors import TimedOut

_FIRST = 0.05
_LONGEST = 1.0
_LAST_LOOK = 1.0


def backoff(attempt: int) -> float:
    """Return the seconds to wait before the attempt after this one (0 is the first), jittered."""
    longest = min(_LONGEST, _FIRST * 2.0 ** min(attempt, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter


class Looks:
    """Looks at something until timeout seconds are over: iterating pauses before each look but the first.

    The last look is the one after that time, so that what happened in the last pause counts.
    """

    def __init__(
        self, timeout: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._timeout, self._clock, self._sleep = timeout, clock, sleep
        self._deadline = clock() + timeout

    @property
    def left(self) -> float:
        """Return the seconds that a question may take now: a second at least, for the last look."""
        return max(_LAST_LOOK, self._deadline - self._clock())

    def __iter__(self) -> Iterator[None]:
        for attempt in count():
            yield
            remaining = self._deadline - self._clock()
            if remaining <= 0:
                return
            self._sleep(min(remaining, backoff(attempt)))

    def timed_out(self, *missing: str, details: Sequence[str] = ()) -> TimedOut:
        """Return the failure that the end of the looks is, with a line for each thing that is missing."""
        return TimedOut(*(f"timed out after {self._timeout:g}s: {text}" for text in missing), *details)
