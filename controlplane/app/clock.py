"""The system's clocks."""

import time


class SystemClock:
    """Implements ``ports.Clock``."""

    def monotonic(self) -> float:
        """Seconds that only ever rise."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()
