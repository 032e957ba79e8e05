"""Requests for logs: the query, read as a kubelet reads it, and why one is refused. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

_FLAGS = ("follow", "previous", "timestamps")
_NUMBERS = {"tailLines": 0, "sinceSeconds": 1, "limitBytes": 1}
"""The least value of each."""
_LARGEST = 2**63 - 1
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
_STREAMS = ("All", "Stdout", "Stderr")


class RequestRefused(Exception):
    """A request is not answered: HTTP status, reason for metrics, text for people.

    What somebody who types ``kubectl logs`` should read has status 400, 403 or 500: of all others the API server passes
    on the status alone.
    """

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = dict(headers or {})


def log_options(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what of a log is wanted, as the API server is asked for it; raises RequestRefused.

    Unknown options are ignored, of repeated ones the first counts.
    """
    given: dict[str, str] = {}
    for name, value in query:
        given.setdefault(name, value)
    options = {name: "true" for name in _FLAGS if name in given and given[name].lower() not in ("false", "0")}
    for name, least in _NUMBERS.items():
        if text := given.get(name):
            number = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else -1
            if not least <= number <= _LARGEST:
                raise _wrong(f"{name} must be a whole number from {least} on, not {text[:40]!r}")
            options[name] = str(number)
    if since := given.get("sinceTime"):
        if not _is_time(since):
            raise _wrong(f"sinceTime must be a time like 2026-01-31T12:00:00Z, not {since[:40]!r}")
        if given.get("sinceSeconds"):
            raise _wrong("only one of sinceSeconds and sinceTime may be given")
        options["sinceTime"] = since
    stream = given.get("stream") or "All"
    if stream not in _STREAMS:
        raise _wrong(f"stream must be one of {', '.join(_STREAMS)}, not {stream[:40]!r}")
    # All streams is what every version of Kubernetes gives, older ones without knowing the option.
    return options if stream == "All" else options | {"stream": stream}


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text if _TIME.fullmatch(text) else "")
    except ValueError:
        return False
    return True


def _wrong(text: str) -> RequestRefused:
    return RequestRefused(400, "options", text)
