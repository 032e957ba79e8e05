"""What a base uses: memory as it last said, and CPU counted up from what it says. Pure.

A counter only rises while one replica manages the base, also where the base starts again and counts from 0. After a
change of hands it may be lower than before, and never rises by more than was used since: who reads it then takes no
change for use.
"""

from dataclasses import dataclass, replace
from typing import Self

from controlplane.domain.facts import Health

COUNT_BEGINS = 1e-6
"""Seconds of CPU at which a share begins to count: readers take 0 for what is not known."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a base used at a time, which is in epoch seconds; memory in bytes, CPU in seconds.

    cpu is that of the base's machine, and share the part of one module in it, where all have equal parts. own is the
    metaspace that the base uses without its modules. What is not known is None.
    """

    at: float
    metaspace: int
    own: int | None = None
    heap: int | None = None
    cpu: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """What a base said last of its heap and CPU, and its CPU seconds counted up, as Usage has them."""

    at: float
    heap: int | None = None
    said: float | None = None
    cpu: float | None = None
    share: float | None = None

    def after(self, health: Health, modules: int, at: float) -> Self:
        """Take an answer of a base with so many modules."""
        now = replace(self, at=at, heap=self.heap if health.heap is None else health.heap)
        if health.cpu is None:
            return now
        if self.said is None or self.cpu is None or self.share is None:
            return replace(now, said=health.cpu, cpu=health.cpu, share=COUNT_BEGINS)
        used = health.cpu - self.said if health.cpu >= self.said else health.cpu
        return replace(now, said=health.cpu, cpu=self.cpu + used, share=self.share + used / max(modules, 1))


NOTHING_COUNTED = Counted(0.0)
