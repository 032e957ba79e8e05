"""The shape of what a base says: equal for two answers that differ only in measurements, times, folders and builds."""

import re
from typing import Any, TypeAlias

Shape: TypeAlias = object

WORDS = frozenset({"code", "bizState", "state", "reason", "command", "desc", "id", "declaredMode"})
"""Members whose text is one of a few words of the protocol: it must be the same, in the same case."""
UNORDERED = frozenset({"bizUrlToResponse"})
"""Java maps with keys of their own: in no order that means anything."""

_NUMBER = re.compile(r"\d+")
_THROWN = re.compile(r"^(?:Caused by: )?(?P<thrown>[\w.$]+(?:Exception|Error)\b.*)\n\tat (?P<where>\S+)", re.MULTILINE)
_MODULES = "com.example."
"""Package of the modules: what their own code throws is their own text."""


def shape(value: Any, member: str = "") -> Shape:
    """Return members in their order with the shapes of their values, of lists the kinds of items, of text its form."""
    if isinstance(value, dict):
        members = [(name, shape(item, name)) for name, item in value.items()]
        return ("map", frozenset(members)) if member in UNORDERED else ("object", tuple(members))
    if isinstance(value, list):
        return "list", frozenset(shape(item, member) for item in value)
    if not isinstance(value, str):
        return type(value).__name__
    if member in WORDS:
        return value
    if "\n\tat " in value:
        return "trace", thrown(value)
    # In a message only numbers are measurements.
    return _NUMBER.sub("0", value) if member == "message" else "text"


def thrown(trace: str) -> tuple[str, ...]:
    """Return what was thrown, outermost first: what a module's own code threw as its class alone."""
    found = []
    for match in _THROWN.finditer(trace):
        own = match["where"].startswith(_MODULES)
        found.append(match["thrown"].partition(":")[0] if own else match["thrown"])
    return tuple(found)
