"""Text for people: lists, ages, times."""

from collections.abc import Sequence
from datetime import datetime

_SHOWN = 5


def joined(*parts: str) -> str:
    """Return the parts that are not empty in the form where: what: why."""
    return ": ".join(filter(None, parts))


def some(names: Sequence[str]) -> str:
    """Return names as a list for people, five of them when there are more."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86400
_YEAR = 365 * _DAY
_LETTERS = {_SECOND: "s", _MINUTE: "m", _HOUR: "h", _DAY: "d", _YEAR: "y"}

# As duration.HumanDuration of k8s.io/apimachinery, with which kubectl prints AGE: an age below so many seconds is shown
# in a unit, with the rest in a smaller one unless that is 0.
_AGES = (
    (2 * _MINUTE, _SECOND, 0),
    (10 * _MINUTE, _MINUTE, _SECOND),
    (3 * _HOUR, _MINUTE, 0),
    (8 * _HOUR, _HOUR, _MINUTE),
    (2 * _DAY, _HOUR, 0),
    (8 * _DAY, _DAY, _HOUR),
    (2 * _YEAR, _DAY, 0),
    (8 * _YEAR, _YEAR, _DAY),
    (float("inf"), _YEAR, 0),
)


def age(since: datetime | None, now: datetime) -> str:
    """Return an age in the form of kubectl, such as 42s, 5m30s, 3h or 2d5h; an absent time gives a dash."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    unit, smaller = next((unit, smaller) for below, unit, smaller in _AGES if seconds < below)
    whole, rest = divmod(seconds, unit)
    part = rest // smaller if smaller else 0
    return f"{whole}{_LETTERS[unit]}" + (f"{part}{_LETTERS[smaller]}" if part else "")


def rfc3339(time: datetime) -> str:
    """Return a time in UTC with milliseconds and Z."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
