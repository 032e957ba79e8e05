"""Turns "something may have changed" into changes of items, for the watch calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

GATHER = 0.1
"""Seconds in which changes are gathered before they are looked at."""

T = TypeVar("T", bound=Message)


async def follow(
    read: Callable[[], dict[str, T]], subscribe: Callable[[Callable[[str], None]], Callable[[], None]]
) -> AsyncIterator[tuple[pb.ChangeType.ValueType, T]]:
    """Yield all items that read gives, then what changes; whatever came and went in between is not told."""
    dirty = asyncio.Event()
    end = subscribe(lambda _name: dirty.set())
    known: dict[str, T] = {}
    try:
        while True:
            current = read()
            for key, item in current.items():
                if key not in known:
                    yield pb.CHANGE_TYPE_ADDED, item
                elif known[key] != item:
                    yield pb.CHANGE_TYPE_MODIFIED, item
            for key in known.keys() - current.keys():
                yield pb.CHANGE_TYPE_DELETED, known[key]
            known = current
            await dirty.wait()
            await asyncio.sleep(GATHER)
            dirty.clear()
    finally:
        end()
