"""Text for people: what servers and bases say is not trusted to steer a terminal."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

_SPACES = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")
_HARMLESS = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff\u4e00-\u9fff]*")
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co"})


def clean(text: str) -> str:
    """Return text on one line, with control and direction-changing characters made visible as U+FFFD."""
    if _HARMLESS.fullmatch(text):
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if unsafe(c) else c for c in _SPACES.sub(" ", text))


def unsafe(char: str) -> bool:
    """Tell whether a terminal might act on a character instead of showing it."""
    return unicodedata.category(char) in _UNSAFE


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


@dataclass(frozen=True, slots=True)
class _Age:
    """How ages below so many seconds are shown: in units of size, with the rest in parts where it has some."""

    below: int
    unit: str
    size: int
    part_unit: str = ""
    part: int = 0


# As duration.HumanDuration of k8s.io/apimachinery, with which kubectl prints AGE.
_AGES = (
    _Age(2 * _MINUTE, "s", 1),
    _Age(10 * _MINUTE, "m", _MINUTE, "s", 1),
    _Age(3 * _HOUR, "m", _MINUTE),
    _Age(8 * _HOUR, "h", _HOUR, "m", _MINUTE),
    _Age(2 * _DAY, "h", _HOUR),
    _Age(8 * _DAY, "d", _DAY, "h", _HOUR),
    _Age(2 * _YEAR, "d", _DAY),
    _Age(8 * _YEAR, "y", _YEAR, "d", _DAY),
)


def age(since: datetime | None, now: datetime) -> str:
    """Return an age in the form of kubectl, such as 42s, 5m30s, 3h or 2d5h; an absent time gives a dash."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for form in _AGES:
        if seconds < form.below:
            whole, rest = seconds // form.size, seconds % form.size // form.part if form.part else 0
            return f"{whole}{form.unit}" + (f"{rest}{form.part_unit}" if rest else "")
    return f"{seconds // _YEAR}y"


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_LONGEST = 7 * 24 * 3600.0


def duration(text: str) -> float:
    """Return the seconds of a duration such as 500ms, 30s, 2m, 1h or 30; raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.001 <= seconds <= _LONGEST:
        raise ValueError(f"{text!r} is no duration from 1ms to 168h: write for example 500ms, 30s, 2m or 1h")
    return seconds


_PORTS = range(1, 65536)
_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z._-]+):(\d{1,5})")


def server_address(text: str) -> str:
    """Return text when it is host:port; raises ValueError."""
    found = _SERVER.fullmatch(text.strip())
    if not found or int(found[1]) not in _PORTS:
        raise ValueError(f"{text!r} is no host:port: write for example 127.0.0.1:50051 or [::1]:50051")
    return text.strip()
