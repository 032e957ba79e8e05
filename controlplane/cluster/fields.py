"""Tolerant reading of JSON objects: what is missing, null or of a wrong type is empty.

Objects come from other people's manifests through the API server, and from admission webhooks; nothing in them may make
an informer fail.
"""

from collections.abc import Mapping
from sys import intern
from typing import Any, TypeVar

import orjson

from controlplane.cluster.api import Json

T = TypeVar("T")


def parsed(document: bytes | str) -> Json | None:
    """Return the object that a JSON document is; None for anything else."""
    try:
        obj = orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
    return obj if isinstance(obj, dict) else None


def text(obj: Json, name: str) -> str:
    """Return a text, or an empty one."""
    value = obj.get(name)
    return value if isinstance(value, str) else ""


def word(obj: Json, name: str) -> str:
    """Return a text of which many equal ones are kept (a kind, a state, an image), stored once."""
    return intern(text(obj, name))


def integer(obj: Json, name: str) -> int | None:
    """Return a whole number, or None."""
    value = obj.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def flag(obj: Json, name: str) -> bool:
    """Return whether a field is true."""
    return obj.get(name) is True


def mapping(obj: Json, *path: str) -> Json:
    """Return the object at the end of a path of fields, or an empty one."""
    for name in path:
        inner = obj.get(name)
        if not isinstance(inner, dict):
            return {}
        obj = inner
    return obj


def objects(obj: Json, name: str) -> list[Json]:
    """Return the objects in a list; other elements are passed over."""
    value = obj.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(obj: Json, name: str) -> tuple[str, ...]:
    """Return the texts in a list; other elements are passed over."""
    value = obj.get(name)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def words(obj: Json, name: str) -> dict[str, str]:
    """Return the pairs of texts in an object, such as labels, stored once."""
    return {intern(key): intern(value) for key, value in pairs(obj, name)}


def pairs(obj: Json, name: str) -> list[tuple[str, str]]:
    """Return the pairs of texts in an object; other values are passed over."""
    value: Any = obj.get(name)
    if not isinstance(value, dict):
        return []
    return [(key, item) for key, item in value.items() if isinstance(key, str) and isinstance(item, str)]


def filled(fields: Mapping[str, T]) -> dict[str, T]:
    """Return what is to be written of some fields: not those that are empty."""
    return {name: value for name, value in fields.items() if value}
