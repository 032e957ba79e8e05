"""Times as Kubernetes writes them: RFC 3339, UTC."""

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(seconds: float) -> str:
    """Return seconds since the epoch as Kubernetes writes a time, to the second."""
    return _of_second(int(seconds))


def micro_time(seconds: float) -> str:
    """Return seconds since the epoch as Kubernetes writes MicroTime."""
    return _written(seconds, "microseconds")


@lru_cache(maxsize=256)
def _of_second(seconds: int) -> str:
    return _written(seconds, "seconds")


def _written(seconds: float, precision: str) -> str:
    # isoformat takes a third of the time of strftime, and no other zone is ever written.
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def parse_time(text: str) -> float | None:
    """Return a time of the cluster as seconds since the epoch, None if it cannot be read."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
