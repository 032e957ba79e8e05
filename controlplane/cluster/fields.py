"""Tolerant reading of JSON objects: what is missing, null or of a wrong type is empty.

Objects come from other people's manifests through the API server, and from admission webhooks; nothing in them may make
an informer fail.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from sys import intern
from typing import Any, TypeVar

import orjson
from pydantic.alias_generators import to_camel

from controlplane.cluster.api import Json
from controlplane.domain.sharing import KEPT, LONGEST, shared

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


def words(obj: Json, name: str) -> Mapping[str, str]:
    """Return the pairs of texts in an object, such as labels, stored once."""
    return shared_pairs(pairs(obj, name))


def shared_pairs(found: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return pairs of texts as a mapping, stored once for all objects that have the same."""
    items = tuple(found)
    if sum(len(key) + len(value) for key, value in items) > LONGEST:
        return dict(items)
    return _mapping(items)


@lru_cache(KEPT)
def _mapping(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return {intern(key): intern(value) for key, value in items}


def pairs(obj: Json, name: str) -> list[tuple[str, str]]:
    """Return the pairs of texts in an object; other values are passed over."""
    value: Any = obj.get(name)
    if not isinstance(value, dict):
        return []
    return [(key, item) for key, item in value.items() if isinstance(key, str) and isinstance(item, str)]


def filled(fields: Mapping[str, T]) -> dict[str, T]:
    """Return what is to be written of some fields: not those that are empty."""
    return {name: value for name, value in fields.items() if value}


_READ: Mapping[Any, Callable[[Json, str], Any]] = {
    str: word,
    int: lambda obj, name: integer(obj, name) or 0,
    bool: flag,
    Mapping[str, str]: words,
}


_UNIQUE = ("uid", "resource_version")


@cache
def _readers(kind: Any) -> tuple[tuple[str, str, Callable[[Json, str], Any]], ...]:
    known = ((each.name, text if each.name in _UNIQUE else _READ.get(each.type)) for each in dataclasses.fields(kind))
    return tuple((name, to_camel(name), read) for name, read in known if read is not None)


def view(kind: Callable[..., T], obj: Json, /, **given: Any) -> T:
    """Return a dataclass whose texts, numbers, flags and labels, but for those given, are the object's of that name."""
    read = {name: read(obj, there) for name, there, read in _readers(kind) if name not in given}
    return kind(**read, **given)


def views(kind: Callable[..., T], obj: Json, name: str) -> tuple[T, ...]:
    """Return a view of each object in a list, stored once."""
    return tuple(shared(view(kind, each), len(text(each, "message"))) for each in objects(obj, name))
