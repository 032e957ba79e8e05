"""Answers of bases as bytes, and readers of bytes."""

from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from gateways.arklet import payloads
from gateways.arklet.fields import Json, first_object

T = TypeVar("T")


def of_bytes(read: Callable[[Json], T]) -> Callable[[bytes], T]:
    """Return a reader of bodies."""
    return lambda body: read(first_object(body))


modules = of_bytes(payloads.modules)


health = of_bytes(payloads.health)


help_commands = of_bytes(payloads.help_commands)


def answer(data: Any = None, **more: Any) -> bytes:
    return orjson.dumps({"code": "SUCCESS", "data": data, "baseIdentity": "10.0.0.7"} | more)
