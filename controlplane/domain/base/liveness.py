"""Is a base alive? Judged from evidence and from what could have been seen at all.

Silence counts only while the base could have been seen:

    silent(now) = now - max(last evidence, begin of our term, tunnel up again)

While the tunnel is down nothing is concluded; the clock starts again when it is
back. Dead follows unreachable, and is never concluded while removals are frozen
because too many bases fell silent together.

A base that sends heartbeats but cannot be commanded is of no use: commands that fail count like
silence, from the last one that was answered. It is not dead while it sends heartbeats, and
nothing is concluded while commands to most bases fail: then the fault is ours.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


class Verdict(Enum):
    """What silence means now."""

    ALIVE = "alive"
    UNREACHABLE = "unreachable"
    DEAD = "dead"
    UNHEARD = "unheard"
    """The tunnel is down: nothing can be said."""
    ONE_WAY = "one-way"
    """It sends heartbeats, and does not answer commands."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds of silence until a base counts as unreachable, and as dead."""

    unreachable: float = 25.0
    dead: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.unreachable < self.dead:
            raise ValueError("unreachable must be positive and less than dead")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Monotonic times: when our term began, when the base was last seen, when the tunnel came (None: it is down).

    last_answered is when it last answered a command; failing: the last one failed.
    """

    term_began: float
    last_heard: float
    tunnel_up_since: float | None
    last_answered: float = 0.0
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, since when silence counts, and when it can next change by itself (None: only by news)."""

    verdict: Verdict
    silent_since: float
    next_at: float | None


def judge(
    evidence: Evidence, *, now: float, patience: Patience, removals_frozen: bool, commands_fail: bool = False
) -> Judgement:
    """Judge a base. commands_fail says that commands to most bases fail."""
    if evidence.tunnel_up_since is None:
        return Judgement(Verdict.UNHEARD, max(evidence.last_heard, evidence.term_began), None)
    since = max(evidence.last_heard, evidence.term_began, evidence.tunnel_up_since)
    silent = now - since
    if silent < patience.unreachable:
        silent_at = since + patience.unreachable
        if not evidence.failing:
            return Judgement(Verdict.ALIVE, since, silent_at)
        unanswered = max(evidence.last_answered, evidence.term_began, evidence.tunnel_up_since)
        one_way_at = unanswered + patience.unreachable
        if now < one_way_at:
            return Judgement(Verdict.ALIVE, since, min(silent_at, one_way_at))
        return Judgement(Verdict.ALIVE if commands_fail else Verdict.ONE_WAY, unanswered, silent_at)
    if silent < patience.dead:
        return Judgement(Verdict.UNREACHABLE, since, since + patience.dead)
    if removals_frozen:
        return Judgement(Verdict.UNREACHABLE, since, None)
    return Judgement(Verdict.DEAD, since, None)


def tunnel_up_since(
    seen: Mapping[T, float], up_since: Mapping[T, float], *, current: T, patience: Patience
) -> float | None:
    """Return since when the base could be seen at all; None while none of its tunnels is up.

    Its tunnels are the current one and those that showed life not long before its last sign: silence on a tunnel that
    it never uses says nothing.
    """
    last = max(seen.values(), default=0.0)
    used = {kind for kind, at in seen.items() if last - at < patience.dead} or {current}
    return max((up_since[kind] for kind in used if kind in up_since), default=None)


def choose_tunnel(seen: Mapping[T, float], up: Container[T], *, current: T, now: float, patience: Patience) -> T:
    """Return the tunnel to use: the current one as long as it is up and shows life, else the liveliest."""
    if current in up and now - seen.get(current, now) < patience.unreachable:
        return current
    alive = {kind: at for kind, at in seen.items() if kind in up and now - at < patience.unreachable}
    return max(alive, key=lambda kind: alive[kind], default=current)


MASS_SILENCE_SHARE = 0.55
MASS_SILENCE_LEAST = 5


def mass_silence(silent: int, all_bases: int) -> bool:
    """Return whether so many bases are silent at once that the fault is likely ours."""
    return silent >= MASS_SILENCE_LEAST and silent > MASS_SILENCE_SHARE * all_bases
