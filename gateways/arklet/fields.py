"""JSON from bases: objects out of bytes, typed members out of objects.

Nothing here trusts what it reads: a wrong type is Malformed with the path of the member, and what a base may leave out
has a stated default.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import orjson

from gateways.arklet.text import NAME_LIMIT, clip

Json: TypeAlias = dict[str, Any]

V = TypeVar("V")

MOST_VALUES = 131_072
"""Values in a JSON text, by its commas and brackets: those of 4,000 modules. Each may cost 100 bytes to hold."""

_TYPES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class Malformed(ValueError):
    """What a base sent is not what the protocol knows; the message names the member."""


class TooManyValues(Malformed):
    """There are more values in a text than anything that a base says has."""


def first_object(body: bytes) -> Json:
    """Return the JSON object at the start of body; raises Malformed, and TooManyValues for more than MOST_VALUES.

    What follows the object is ignored, since arklet can write a second answer behind the first. Bytes that are not
    UTF-8 (bases write some text in the charset of their JVM) are replaced, not refused.
    """
    # Counting is much faster than reading; each value but the first has a comma or a bracket before it.
    if len(body) > MOST_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise TooManyValues(f"more than {MOST_VALUES} values")
    try:
        value = _load(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not a JSON object: {error.msg}") from None
    if not isinstance(value, dict):
        raise Malformed(f"not a JSON object but {kind(value)}")
    return value


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not error.msg.startswith("unexpected content after document"):
            raise
        return orjson.loads(text[: error.pos])


def kind(value: Any) -> str:
    """Return the JSON type of value in words."""
    return _TYPES.get(type(value), type(value).__name__)


def required_object(parent: Json, key: str) -> Json:
    """Return the object under key; raises Malformed."""
    value = parent.get(key)
    if not isinstance(value, dict):
        raise Malformed(f"{key}: expected an object, got {kind(value) if key in parent else 'nothing'}")
    return value


def optional_object(parent: Json, key: str) -> Json:
    """Return the object under key; anything else counts as absent."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def required_text(parent: Json, key: str, path: str, limit: int) -> str:
    """Return the text under key unaltered; raises Malformed if it is absent, empty or longer than limit."""
    value = parent.get(key)
    if value is None:
        raise Malformed(f"{path}: missing")
    if not isinstance(value, str):
        raise Malformed(f"{path}: expected text, got {kind(value)}")
    if not value:
        raise Malformed(f"{path}: empty")
    if len(value) > limit:
        raise Malformed(f"{path}: longer than {limit} characters")
    return value


def text(parent: Json, key: str, path: str) -> str:
    """Return the text under key cut to NAME_LIMIT, empty when absent or null; raises Malformed."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{path}: expected text, got {kind(value)}")
    return clip(value, NAME_LIMIT)


def lenient_text(parent: Json, key: str) -> str:
    """Return the text under key, empty for anything else."""
    value = parent.get(key)
    return value if isinstance(value, str) else ""


def lenient_integer(parent: Json, key: str) -> int | None:
    """Return the whole number of 64 bits under key, None for anything else."""
    value = parent.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        return None
    return value


def lenient_number(parent: Json, key: str) -> float | None:
    """Return the finite number under key, None for anything else."""
    value = parent.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 2**63 else None


def enum(value: Any, members: Mapping[str, V], unknown: V) -> V:
    """Return the member that value names in any case, or by its place in members (a number or digits)."""
    if isinstance(value, str):
        if (named := members.get(value.upper())) is not None:
            return named
        value = int(value) if len(value) == 1 and value in "0123456789" else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(members):
        return [*members.values()][value]
    return unknown
