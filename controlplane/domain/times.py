"""Times as Kubernetes writes them: RFC 3339, UTC."""

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """Return seconds since the epoch as Kubernetes writes a time, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(seconds: float) -> str:
    """Return seconds since the epoch as Kubernetes writes MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> float | None:
    """Return a time of the cluster as seconds since the epoch, None if it cannot be read."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
