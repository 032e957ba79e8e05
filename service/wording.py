"""What libraries say, in plain words."""

from __future__ import annotations

import re

_WORDS = (
    (re.compile(r"\b(Value error|Assertion failed), "), ""),
    (re.compile(r"\bInput should be\b"), "must be"),
    (re.compile(r"\[field:[^\[\]]* error:([^\[\]]*)\]"), r"\1"),
    (re.compile(r", unable to (parse|interpret) [^.:;]*"), ""),
)


def plain(message: str) -> str:
    """Return a message of pydantic or gRPC, or one with such a message in it, without their own terms."""
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message
