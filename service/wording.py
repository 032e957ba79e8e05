"""Texts for people: what libraries say, in plain words; what strangers say, harmless for whoever shows it."""

import re
import unicodedata

from pydantic import ValidationError

_WORDS = (
    (re.compile(r"\b(Value error|Assertion failed), "), ""),
    (re.compile(r"\b(Input|String|Value) should\b"), "must"),
    (re.compile(r"\[field:[^\[\]]* error:([^\[\]]*)\]"), r"\1"),
    (re.compile(r", unable to (parse|interpret) [^.:;]*"), ""),
)

_SPACES = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")
_HARMLESS = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff\u4e00-\u9fff]*")
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co"})


def clean(text: str) -> str:
    """Return text on one line, with control and direction-changing characters made visible as U+FFFD."""
    if _HARMLESS.fullmatch(text):
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if unsafe(c) else c for c in _SPACES.sub(" ", text))


def unsafe(char: str) -> bool:
    """Return whether a terminal might act on a character instead of showing it."""
    return unicodedata.category(char) in _UNSAFE


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
