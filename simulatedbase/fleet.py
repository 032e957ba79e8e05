"""Many simulated bases in one process."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace

from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Profile

_FILES_PER_BASE = 3
_FILES_SPARE = 256


class UnknownBase(LookupError):
    """No base of the fleet has that identity."""


class Fleet:
    """Bases started one after another, evenly over a time, and stopped together."""

    def __init__(self, bases: Sequence[SimulatedBase]) -> None:
        self._bases = {base.identity: base for base in bases}

    def bases(self) -> list[SimulatedBase]:
        """Return all bases in order."""
        return list(self._bases.values())

    def select(self, identity: str) -> list[SimulatedBase]:
        """Return one base, or all for an empty identity; raises UnknownBase."""
        if not identity:
            return self.bases()
        base = self._bases.get(identity)
        if base is None:
            raise UnknownBase(identity)
        return [base]

    async def start(self, ramp: float, started: Callable[[SimulatedBase], None]) -> None:
        """Start all bases over ramp seconds; started is told of each. Raises what a base's start raises."""
        raise_file_limit(len(self._bases))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for index, base in enumerate(self.bases()):
            await asyncio.sleep(began + ramp * index / len(self._bases) - loop.time())
            await base.start()
            started(base)

    async def stop(self) -> None:
        """Stop all bases."""
        await asyncio.gather(*(base.stop() for base in self.bases()))


def profiles(first: Profile, count: int) -> list[Profile]:
    """Return count profiles: first alone under its own identity, several as IDENTITY-1 to IDENTITY-count.

    A fixed port counts up from base to base.
    """
    if count == 1:
        return [first]
    return [
        replace(
            first, identity=f"{first.identity}-{number}", port=first.port + number - 1 if first.port else first.port
        )
        for number in range(1, count + 1)
    ]


def raise_file_limit(bases: int) -> None:
    """Let the process open the files that so many bases need, as far as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bases * _FILES_PER_BASE + _FILES_SPARE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
