"""The last operations on the modules of one base: for people who ask what happened to a module.

Bounded: of each module and of each base the oldest are forgotten first.
"""

from dataclasses import dataclass
from typing import TypeAlias

from controlplane.domain.base.outcomes import Ended
from controlplane.domain.base.replies import Effect
from controlplane.domain.facts import Verb
from controlplane.domain.identity import ModuleKey

PER_MODULE = 10
PER_BASE = 100
MESSAGE_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Operation:
    """An order that ended at wall, in seconds since the epoch; seconds is how long it took."""

    key: ModuleKey
    verb: Verb
    wall: float
    seconds: float
    effect: Effect
    reason: str
    message: str


History: TypeAlias = tuple[Operation, ...]
"""Oldest first."""


def remember(history: History, ended: Ended, *, wall: float) -> History:
    """Return the history with an order that ended now."""
    key = ended.spec.key
    latest = Operation(
        key=key,
        verb=ended.verb,
        wall=wall,
        seconds=max(ended.seconds, 0.0),
        effect=ended.meaning.effect,
        reason=ended.meaning.reason,
        message=ended.meaning.message[:MESSAGE_LIMIT],
    )
    of_module = [operation for operation in history if operation.key == key]
    if len(of_module) >= PER_MODULE:
        history = tuple(operation for operation in history if operation is not of_module[0])
    return (*history, latest)[-PER_BASE:]
