"""Secrets out of text that is for people.

Libraries put whole URLs into the texts of their errors, with the user and password of a proxy or a token in the query.
Whatever leaves a program as text (logs, Events, answers, hooks, messages on standard error, findings) goes through
``masked``. It replaces the secrets that the process knows, and what has the shape of one.

Texts may come from whoever reaches a port. So the time is linear in the length: each pattern either takes all that it
looked at, or looks at a bounded number of characters.
"""

import re
from collections.abc import Mapping
from typing import Any

from service.secrets import KNOWN, MASK

LONGEST = 16 * 1024
"""Characters of one value of a log line."""
DEEPEST = 8
"""Levels of lists and dictionaries in a log line."""
MOST_VALUES = 5_000
"""Values of a log line."""
_NUMBERS = (int, float, bool, type(None))

_CUT = "..."
_URL = re.compile(r"://([^\s\"'<>\\]+)")
_AUTHORITY = re.compile(r"[^/?#]*")
_PORT = re.compile(r"\d*[^\w]*")

# The token in the path to which a base posts.
_TOKEN_PATH = re.compile(r"((?<![\w/.-])/t/)[^/\s\"'<>?]+")

_PARAMETER = re.compile(r"(?<![\w.%~\[\]-])([\w.%~\[\]-]{1,64})=([^&\s\"'<>\\]+)")
_SECRET_NAME = re.compile(r"^(?!.*_(?:path|file)$).*(?:token|secret|passw|credential|signature)", re.IGNORECASE)
"""Outside of a URL; a path or the name of a file is none."""
_SECRET_PARAMETER = re.compile(r"token|secret|passw|pwd|credential|sig|expire|key|auth|ticket|jwt|session|hmac", re.I)
"""In a URL: the signatures of S3, OSS, COS, Azure and Google, and what repositories call their tokens."""

_HEADER = re.compile(
    r"((?:authorization|cookie|x-[\w-]{0,40}(?:token|key|secret|auth))[\"']?\s{0,4}[:=,]\s{0,4}(?:b(?=[\"']))?[\"']?)"
    r"((?:basic|bearer|digest|negotiate|token)\s{1,4})?[^\s\"'<>,;\\]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(bearer\s{1,4})[\w.~+/=-]{16,}", re.IGNORECASE)
# A JSON Web Token: its header is JSON, and that begins like this.
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----)(?:.*?(?=-----END )|.*)", re.DOTALL)


def masked(text: str) -> str:
    """Return text with known secrets, and those of URLs, headers, tokens and private keys, replaced by ***."""
    text = KNOWN.hidden(text)
    # To look for what a pattern begins with costs a tenth of looking for the pattern.
    lower = text.lower()
    if "://" in lower:
        text = _URL.sub(_without_user, text)
    if "/t/" in lower:
        text = _TOKEN_PATH.sub(rf"\1{MASK}", text)
    if "=" in lower:
        text = _PARAMETER.sub(_without_value, text)
    if "authorization" in lower or "cookie" in lower or "x-" in lower:
        text = _HEADER.sub(rf"\1\2{MASK}", text)
    if "bearer" in lower:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if "eyj" in lower:
        text = _JWT.sub(MASK, text)
    if "private key" in lower:
        text = _PRIVATE_KEY.sub(rf"\1{MASK}", text)
    return text


def _without_user(found: re.Match[str]) -> str:
    """Return the rest of a URL without user:password@, up to the last @: a password may have one in it, and a slash."""
    rest = found[1]
    authority = _AUTHORITY.match(rest)
    host = authority[0] if authority else ""
    if "@" in host or ("@" in rest and not _is_host(host)):
        return f"://{MASK}@{rest.rpartition('@')[2]}"
    if rest.startswith("/t/", len(host)):
        head, _, tail = rest[len(host) + 3 :].partition("/")
        return f"://{host}/t/{MASK if head else ''}{'/' if tail else ''}{tail}"
    return found[0]


def _is_host(text: str) -> bool:
    name, colon, port = text.rpartition(":")
    return not colon or text.startswith("[") or (":" not in name and _PORT.fullmatch(port) is not None)


def _without_value(found: re.Match[str]) -> str:
    in_url = found.string[found.start() - 1 : found.start()] in ("?", "&", ";", "#")
    name = _SECRET_PARAMETER if in_url else _SECRET_NAME
    return f"{found[1]}={MASK}" if name.search(found[1]) else found[0]


def masked_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as text, numbers, lists and dictionaries, with every text in them masked; long ones are cut.

    It does not fail: what cannot be read as text is named by its type.
    """
    texts = [value for value in fields.values() if type(value) is str]
    plain = len(texts) + sum(type(value) in _NUMBERS for value in fields.values())
    together = "\n".join(texts)
    if plain == len(fields) and len(together) <= LONGEST and masked(together) == together:
        return dict(fields)  # as most lines: one look for all texts
    deep = _Deep()
    return {key: deep.of(value, 0) for key, value in fields.items()}


class _Deep:
    """Masks values with all that is in them; bounded in number and depth."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        match value:
            case str():
                return _text(value)
            case _ if type(value) in _NUMBERS:
                return value
            case dict() | list() | tuple() if depth >= DEEPEST or self._left <= 0:
                return _CUT
            case dict():
                return {_text(key): self.of(item, depth + 1) for key, item in self._some(value.items())}
            case list() | tuple():
                return [self.of(item, depth + 1) for item in self._some(value)]
        return _text(value)

    def _some(self, items: Any) -> Any:
        for item in items:
            if self._left <= 0:
                return
            yield item


def _text(value: object) -> str:
    """Return the masked text of a value, cut."""
    try:
        text = str(value)
    except Exception:
        return f"<{type(value).__name__}>"
    if len(text) <= LONGEST:
        return masked(text)
    return f"{masked(text[:LONGEST])}{_CUT} ({len(text) - LONGEST} more characters)"
