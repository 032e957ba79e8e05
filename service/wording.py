"""What libraries say, in plain words."""

import re

from pydantic import ValidationError

_WORDS = (
    (re.compile(r"\b(Value error|Assertion failed), "), ""),
    (re.compile(r"\b(Input|String|Value) should\b"), "must"),
    (re.compile(r"\[field:[^\[\]]* error:([^\[\]]*)\]"), r"\1"),
    (re.compile(r", unable to (parse|interpret) [^.:;]*"), ""),
)


def plain(message: str) -> str:
    """Return a message of pydantic or gRPC, or one with such a message in it, without their own terms."""
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message


def problem(error: ValidationError) -> str:
    """Return the first problem of a document with its field, without what is in it, which may be secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    words = {"missing": "is missing", "extra_forbidden": "is not known"}.get(first["type"], plain(first["msg"]))
    return f"field {field} {words}" if field else words
