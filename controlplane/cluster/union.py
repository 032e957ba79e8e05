"""Objects of one kind that no one label selector chooses: several informers that read as one.

Selectors should have no object in common. An object that passes from one to the other is
deleted from one watch and added to the other, in any order; its newest known version counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Generic, NoReturn, TypeVar

from controlplane.cluster.cache import Versioned, newer
from controlplane.cluster.informer import ObjectInformer

V = TypeVar("V", bound=Versioned)


class UnionInformer(Generic[V]):
    """Implements ``controlplane.app.ports.Informer``."""

    def __init__(self, *parts: ObjectInformer[V]) -> None:
        self.parts = parts

    @property
    def synced(self) -> bool:
        """The first full lists of all parts have been taken."""
        return all(part.synced for part in self.parts)

    def get(self, key: str) -> V | None:
        """Return the object under namespace/name."""
        found: V | None = None
        for part in self.parts:
            other = part.get(key)
            if found is None or (other is not None and newer(other.resource_version, found.resource_version)):
                found = other
        return found

    def all(self) -> Iterator[V]:
        """Iterate over a snapshot."""
        keys = dict.fromkeys(chain.from_iterable(part.keys() for part in self.parts))
        return iter([found for key in keys if (found := self.get(key)) is not None])

    def subscribe(self, handler: Callable[[str], None]) -> None:
        """Call handler with the key of each object that changed from now on."""
        for part in self.parts:
            part.subscribe(handler)

    def trouble(self) -> str | None:
        """Say in words why this cannot be relied upon now, or None."""
        return next((trouble for part in self.parts if (trouble := part.trouble()) is not None), None)

    def wrote_part(self, key: str, view: V) -> V:
        """Take the result of a write that returned only a part of an object that we have; return it."""
        for part in self.parts:
            if part.get(key) is not None:
                part.wrote_part(key, view)
        return view

    async def run(self) -> NoReturn:
        """Keep all parts current."""
        async with asyncio.TaskGroup() as group:
            for part in self.parts:
                group.create_task(part.run(), name="informer-part")
        raise AssertionError("informers never return")
