"""What the answers of a base may cost, and how long one that costs more is left alone.

A base has an allowance of CPU time and bytes, as a bucket that fills up within a minute. Beyond it, and after an answer
that no base gives, the base is not asked for 10 s, then 20 s, and so on up to ten minutes; a step is forgiven for each
ten minutes after that without cause. Times are monotonic seconds of the caller. Who is forgotten begins anew.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from service.limits import Recent

SECONDS = 2.0
"""CPU time that the answers of a base may take in a minute: 0.5 s for each of four module lists."""
BYTES = 16 << 20
"""Bytes of these."""
MINUTE = 60.0
FIRST_REST = 10.0
LONGEST_REST = 600.0
FORGIVEN = 600.0
JITTER = 0.2
MOST_BASES = 20_000
_STEPS = 6
"""Ten seconds doubled so often are more than ten minutes."""


@dataclass(slots=True)
class _Account:
    at: float
    seconds: float = 0.0
    size: float = 0.0
    steps: int = 0
    until: float = float("-inf")
    why: str = ""


@dataclass(slots=True)
class Allowances:
    """The allowances of all bases."""

    chance: Callable[[], float] = random.random
    _accounts: Recent[str, _Account] = field(default_factory=lambda: Recent(MOST_BASES), init=False)

    def rest(self, base: str, now: float) -> tuple[float, str]:
        """Return for how many seconds a base is not to be asked, and why; 0 if it may be."""
        account = self._accounts.get(base)
        if account is None or account.until <= now:
            return 0.0, ""
        return account.until - now, account.why

    def charge(self, base: str, seconds: float, size: int, now: float) -> bool:
        """Charge an answer; return whether the base is left alone from now on, since it has spent more than it may."""
        account = self._account(base, now)
        account.seconds += seconds
        account.size += size
        if account.seconds <= SECONDS and account.size <= BYTES:
            return False
        self.exceeded(base, "its answers cost more than those of a base may within a minute", now)
        return True

    def exceeded(self, base: str, why: str, now: float) -> None:
        """Leave a base alone, for longer each time."""
        account = self._account(base, now)
        forgiven = int(min(max(now - account.until, 0.0) / FORGIVEN, account.steps))
        account.steps -= forgiven
        length = min(FIRST_REST * 2.0**account.steps, LONGEST_REST)
        account.until = now + length * (1 + JITTER * (2 * self.chance() - 1))
        account.steps = min(account.steps + 1, _STEPS)
        account.why = why

    def _account(self, base: str, now: float) -> _Account:
        account = self._accounts.get(base) or _Account(now)
        passed = now - account.at
        account.seconds = max(account.seconds - passed * SECONDS / MINUTE, 0.0)
        account.size = max(account.size - passed * BYTES / MINUTE, 0.0)
        account.at = now
        self._accounts[base] = account
        return account
