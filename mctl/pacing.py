"""When to try again and when to look again: pauses grow, are jittered and capped."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mctl.errors import TimedOut

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 2.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_LAST_LOOK = 1.0


def backoff(attempt: int) -> float:
    """Return the seconds to wait before the attempt after this one (0 is the first), jittered."""
    return _jittered(min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(attempt, 10)))


def _jittered(longest: float) -> float:
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter


@dataclass(slots=True)
class Looks:
    """Looks at something until timeout seconds are over: iterating pauses before each look but the first.

    The last look is the one after that time, so that what happened in the last pause counts.
    """

    timeout: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.timeout

    @property
    def left(self) -> float:
        """Return the seconds that a question may take now: a second at least, for the last look."""
        return max(_LAST_LOOK, self._deadline - self.clock())

    def __iter__(self) -> Iterator[None]:
        pause = _FIRST_PAUSE
        while True:
            yield
            remaining = self._deadline - self.clock()
            if remaining <= 0:
                return
            self.sleep(min(remaining, _jittered(pause)))
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def timed_out(self, *missing: str, details: Sequence[str] = ()) -> TimedOut:
        """Return the failure that the end of the looks is, with a line for each thing that is missing."""
        return TimedOut(*(f"timed out after {self.timeout:g}s: {text}" for text in missing), *details)
