"""Text for people: what servers and bases say must not steer a terminal."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import NamedTuple

_SPACES = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")
_HARMLESS = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff\u4e00-\u9fff]*")
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co"})


def clean(text: str) -> str:
    """Return text on one line, with control and direction-changing characters made visible as U+FFFD."""
    if _HARMLESS.fullmatch(text):
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if unsafe(c) else c for c in _SPACES.sub(" ", text))


def joined(*parts: str) -> str:
    """Return the parts that are not empty in the form where: what: why."""
    return ": ".join(filter(None, parts))


def unsafe(char: str) -> bool:
    """Return whether a terminal might act on a character instead of showing it."""
    return unicodedata.category(char) in _UNSAFE


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


class _AgeForm(NamedTuple):
    """How ages below so many seconds are shown: in units of size, with the rest in parts where it has some."""

    below: float
    unit: str
    size: int
    part_unit: str = ""
    part: int = 1


# As duration.HumanDuration of k8s.io/apimachinery, with which kubectl prints AGE.
_AGES = (
    _AgeForm(2 * _MINUTE, "s", 1),
    _AgeForm(10 * _MINUTE, "m", _MINUTE, "s", 1),
    _AgeForm(3 * _HOUR, "m", _MINUTE),
    _AgeForm(8 * _HOUR, "h", _HOUR, "m", _MINUTE),
    _AgeForm(2 * _DAY, "h", _HOUR),
    _AgeForm(8 * _DAY, "d", _DAY, "h", _HOUR),
    _AgeForm(2 * _YEAR, "d", _DAY),
    _AgeForm(8 * _YEAR, "y", _YEAR, "d", _DAY),
    _AgeForm(float("inf"), "y", _YEAR),
)


def age(since: datetime | None, now: datetime) -> str:
    """Return an age in the form of kubectl, such as 42s, 5m30s, 3h or 2d5h; an absent time gives a dash."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    form = next(form for form in _AGES if seconds < form.below)
    rest = seconds % form.size // form.part if form.part_unit else 0
    return f"{seconds // form.size}{form.unit}" + (f"{rest}{form.part_unit}" if rest else "")


def rfc3339(time: datetime) -> str:
    """Return a time in UTC with milliseconds and Z."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
