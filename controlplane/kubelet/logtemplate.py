"""The URL at which the log of a base is that runs in no Pod: a template, filled for each request. Pure.

What bases report of themselves stands in path and query alone, in characters that mean nothing there, so that it leads
to no other server and into no other query.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from string import Formatter
from urllib.parse import quote, urlsplit

FIELDS = ("host", "ip", "node", "namespace", "pod", "container", "since", "tail", "limit", "follow")
"""What a template may name: of the base, of the module's Pod, and of the request."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")


class WrongTemplate(ValueError):
    """A template cannot be used; the message says why."""


class WrongOption(ValueError):
    """An option of a request cannot be what it is."""


class LogTemplate:
    """A template of a URL. Raises WrongTemplate."""

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            parts = list(Formatter().parse(text))
            fixed = urlsplit(parts[0][0] if parts else "")
            host, _port, user = fixed.hostname, fixed.port, fixed.username
        except ValueError as error:
            raise WrongTemplate(f"is no template of a URL ({str(error)[:200]})") from None
        self.names = {name for _, name, _, _ in parts if name is not None}
        if unknown := sorted(self.names - set(FIELDS)):
            raise WrongTemplate(f"{{{unknown[0][:50]}}} is not one of {', '.join(FIELDS)}")
        if any(spec or conversion for _, _, spec, conversion in parts):
            raise WrongTemplate("a field is only a name in braces")
        if fixed.scheme not in ("http", "https") or not host or not fixed.path:
            raise WrongTemplate("it begins with http:// or https://, a host and a path without fields")
        if user is not None:
            raise WrongTemplate("user and password do not belong into a URL: use LOG_SOURCE_TOKEN_PATH")
        if not {"host", "ip", "node"} & self.names:
            raise WrongTemplate("without {host}, {ip} or {node} all bases have one log")
        if "follow" in self.names and "tail" not in self.names:
            raise WrongTemplate("{follow} needs {tail}: what has no end has no last lines")

    def url(self, of: Mapping[str, str], options: Mapping[str, str], now: datetime) -> str:
        """Return the URL for a base, a Pod and the options of a request; raises WrongOption.

        What is not known or not asked for is empty; since is a time of RFC 3339 in UTC, follow true or false.
        """
        asked = {
            "since": since(options, now),
            "tail": number(options, "tailLines"),
            "limit": number(options, "limitBytes"),
            "follow": "true" if "follow" in options else "false",
        }
        known = {name: value for name, value in of.items() if _PLAIN.fullmatch(value)}
        values = dict.fromkeys(FIELDS, "") | known | asked
        return self._text.format_map({name: quote(value, safe="") for name, value in values.items()})


def since(options: Mapping[str, str], now: datetime) -> str:
    """Return since when lines are wanted, empty if all are; raises WrongOption."""
    if seconds := number(options, "sinceSeconds"):
        try:
            at = now - timedelta(seconds=int(seconds))
        except OverflowError:
            return ""
    elif given := options.get("sinceTime", ""):
        try:
            at = datetime.fromisoformat(given).astimezone(UTC)
        except (ValueError, OverflowError):
            raise WrongOption(f"sinceTime={given[:50]}: it is no time of RFC 3339") from None
    else:
        return ""
    return at.isoformat().replace("+00:00", "Z")


def number(options: Mapping[str, str], name: str) -> str:
    """Return an option that is a number, empty if it is not given; raises WrongOption."""
    value = options.get(name, "")
    if value and not (value.isascii() and value.isdigit() and len(value) < 19):
        raise WrongOption(f"{name}={value[:50]}: it is no number")
    return value
