"""Secrets out of text that is for people.

Libraries put whole URLs into the texts of their errors, with the user and password of a proxy or a token in the query.
Whatever leaves a program as text (logs, the answer of /readyz, messages on standard error, findings) goes through
``masked``.
"""

import re
from typing import Any

MASK = "***"

_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ of a URL, up to the last @: a password may have one in it, and a slash.
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^\s\"'<>]*@", re.IGNORECASE), rf"\1{MASK}@"),
    (
        re.compile(
            r"([?&][^=&\s]*(?:token|secret|password|passwd|credential|signature|sign|key)[^=&\s]*=)[^&\s\"'<>]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # The token in the path to which a base posts.
    (re.compile(r"((?:://[^/\s\"'<>]+|(?<![\w/.-]))/t/)[^/\s\"'<>]+"), rf"\1{MASK}"),
    (re.compile(r"((?:bearer|authorization:\s*\w+)\s+)[\w.~+/=-]{16,}", re.IGNORECASE), rf"\1{MASK}"),
    # A JSON Web Token: its header is JSON, and that begins like this.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), MASK),
)


def masked(text: str) -> str:
    """Return text with the secrets of URLs, Authorization headers and tokens replaced by ***."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def masked_deep(value: Any) -> Any:
    """Return value with every text in it masked, in lists and dictionaries too."""
    match value:
        case str():
            return masked(value)
        case dict():
            return {key: masked_deep(item) for key, item in value.items()}
        case list() | tuple():
            return [masked_deep(item) for item in value]
        case BaseException():
            return masked(str(value))
    return value
