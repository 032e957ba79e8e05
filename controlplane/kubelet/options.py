"""What of a log is wanted: the query of /containerLogs, read as a kubelet reads it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controlplane.kubelet.refusal import Refusal

_FLAGS = ("follow", "previous", "timestamps")
_NUMBERS = {"tailLines": 0, "sinceSeconds": 1, "limitBytes": 1}
"""The least value of each."""
_LARGEST = 2**63 - 1
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
_STREAMS = ("All", "Stdout", "Stderr")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What of a log is wanted; query is the same for the API server, container excepted."""

    follow: bool
    query: tuple[tuple[str, str], ...]


def read(pairs: Iterable[tuple[str, str]]) -> LogOptions:
    """Return the options that a query holds; unknown ones are ignored, of repeated ones the first counts.

    Raises Refusal.
    """
    told: dict[str, str] = {}
    for name, value in pairs:
        told.setdefault(name, value)
    flags = {name for name in _FLAGS if name in told and told[name].lower() not in ("false", "0")}
    query = [(name, "true") for name in _FLAGS if name in flags]
    query += [(name, str(_number(name, told[name], least))) for name, least in _NUMBERS.items() if told.get(name)]
    if since := told.get("sinceTime"):
        query.append(("sinceTime", _time(since)))
    if told.get("sinceTime") and told.get("sinceSeconds"):
        raise _wrong("only one of sinceSeconds and sinceTime may be given")
    stream = told.get("stream") or "All"
    if stream not in _STREAMS:
        raise _wrong(f"stream must be one of {', '.join(_STREAMS)}, not {stream[:40]!r}")
    if stream != "All":
        query.append(("stream", stream))
    return LogOptions("follow" in flags, tuple(query))


def _number(name: str, text: str, least: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else -1
    if not least <= number <= _LARGEST:
        raise _wrong(f"{name} must be a whole number from {least} on, not {text[:40]!r}")
    return number


def _time(text: str) -> str:
    try:
        datetime.fromisoformat(text if _TIME.fullmatch(text) else "")
    except ValueError:
        raise _wrong(f"sinceTime must be a time like 2026-01-31T12:00:00Z, not {text[:40]!r}") from None
    return text


def _wrong(text: str) -> Refusal:
    return Refusal(400, "options", text)
