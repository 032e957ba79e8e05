"""The system's clocks, and times as the cluster writes them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Implements ``ports.Clock``."""

    def monotonic(self) -> float:
        """Seconds that only ever rise."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def parse_time(text: str) -> float | None:
    """Return a time of the cluster as seconds since the epoch, None if it cannot be read."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def micro_time(seconds: float) -> str:
    """Return seconds since the epoch as Kubernetes writes MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
