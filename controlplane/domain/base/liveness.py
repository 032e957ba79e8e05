"""Is a base alive? Judged from evidence and from what could have been seen at all.

Silence counts only while the base could have been seen:

    silent(now) = now - max(last evidence, begin of our term, tunnel up again)

While the tunnel is down nothing is concluded; the clock starts again when it is back. Dead follows unreachable, and is
never concluded while removals are frozen because too many bases fell silent together.

A base that sends heartbeats but cannot be commanded is of no use: commands that fail count like silence, from the last
one that was answered. It is not dead while it sends heartbeats, and nothing is concluded while commands to most bases
fail: then the fault is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from controlplane.domain.base.state import Base
from controlplane.domain.facts import TunnelKind

UNREACHABLE_AFTER = 25.0
"""Seconds of silence until a base counts as unreachable."""
DEAD_AFTER = 60.0
"""Seconds of silence until it counts as dead."""


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
class Outage:
    """Faults of most bases at once, which are likely ours: nothing is removed, and failed commands prove nothing.

    commands_fail says so in words, and is empty while commands arrive.
    """

    removals_frozen: bool = False
    commands_fail: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, since when silence counts, and when it can next change by itself (None: only by news)."""

    verdict: Verdict
    silent_since: float
    next_at: float | None


def judge(base: Base, up_since: Mapping[TunnelKind, float], *, now: float, outage: Outage) -> Judgement:
    """Judge a base; up_since says since when each tunnel is up that is up."""
    signs, term_began, tunnel_up = base.signs, base.term_began, _tunnel_up_since(base, up_since)
    if tunnel_up is None:
        return Judgement(Verdict.UNHEARD, max(signs.last_seen, term_began), None)
    since = max(signs.last_seen, term_began, tunnel_up)
    silent = now - since
    if silent < UNREACHABLE_AFTER:
        silent_at = since + UNREACHABLE_AFTER
        if not signs.failing:
            return Judgement(Verdict.ALIVE, since, silent_at)
        unanswered = max(signs.last_answered, term_began, tunnel_up)
        one_way_at = unanswered + UNREACHABLE_AFTER
        if now < one_way_at:
            return Judgement(Verdict.ALIVE, since, min(silent_at, one_way_at))
        return Judgement(Verdict.ALIVE if outage.commands_fail else Verdict.ONE_WAY, unanswered, silent_at)
    if silent < DEAD_AFTER:
        return Judgement(Verdict.UNREACHABLE, since, since + DEAD_AFTER)
    return Judgement(Verdict.UNREACHABLE if outage.removals_frozen else Verdict.DEAD, since, None)


def _tunnel_up_since(base: Base, up_since: Mapping[TunnelKind, float]) -> float | None:
    """Return since when the base could be seen at all; None while none of its tunnels is up.

    Its tunnels are the current one and those that showed life not long before its last sign: silence on a tunnel that
    it never uses says nothing.
    """
    seen = base.signs.seen_over
    last = max(seen.values(), default=0.0)
    used = {kind for kind, at in seen.items() if last - at < DEAD_AFTER} or {base.profile.tunnel}
    return max((up_since[kind] for kind in used if kind in up_since), default=None)


MASS_SILENCE_SHARE = 0.55
MASS_SILENCE_LEAST = 5


def mass_silence(silent: int, all_bases: int) -> bool:
    """Return whether so many bases are silent at once that the fault is likely ours."""
    return silent >= MASS_SILENCE_LEAST and silent > MASS_SILENCE_SHARE * all_bases
