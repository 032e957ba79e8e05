"""Is a base alive? Judged from evidence and from what could have been seen at all.

Silence counts only while the base could have been seen, and only up to when everything that gateways learned has
arrived:

    silent = heard until - max(last evidence, begin of our term, suspended, tunnel up again, reports lost)

So what comes late is no silence, be it a gateway or this program that is behind or was stopped for a while. While the
tunnel is down nothing is concluded; the clock starts again when it is back. Dead follows unreachable, and is
never concluded while removals are frozen because too many bases fell silent together.

A base that sends heartbeats but cannot be commanded is of no use: commands that fail count like silence, from the last
one that was answered. It is not dead while it sends heartbeats, and nothing is concluded while commands to most bases
fail: then the fault is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import reduce

from controlplane.domain.base.hearing import Heard, look_at
from controlplane.domain.base.state import Base, Phase
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
    """The verdict, since when silence counts, when it can next change by itself, and when the base could be heard.

    next_at is None when only news can change it, heard while no tunnel of the base is up.
    """

    verdict: Verdict
    silent_since: float
    next_at: float | None
    heard: Heard | None


def judge(base: Base, tunnels: Mapping[TunnelKind, Heard], *, now: float, outage: Outage) -> Judgement:
    """Judge a base; tunnels has those that are up, heard since they are at the earliest."""
    signs, heard = base.signs, listened(base, tunnels, now)
    if heard is None:
        return Judgement(Verdict.UNHEARD, signs.last_seen, None, None)
    since, until = max(signs.last_seen, heard.since), heard.until
    silent = until - since
    if silent < UNREACHABLE_AFTER:
        silent_at = look_at(since + UNREACHABLE_AFTER, now)
        if not signs.failing:
            return Judgement(Verdict.ALIVE, since, silent_at, heard)
        unanswered = max(signs.last_answered, heard.since)
        one_way_at = unanswered + UNREACHABLE_AFTER
        if until < one_way_at:
            return Judgement(Verdict.ALIVE, since, min(silent_at, look_at(one_way_at, now)), heard)
        verdict = Verdict.ALIVE if outage.commands_fail else Verdict.ONE_WAY
        return Judgement(verdict, unanswered, silent_at, heard)
    if silent < DEAD_AFTER:
        return Judgement(Verdict.UNREACHABLE, since, look_at(since + DEAD_AFTER, now), heard)
    verdict = Verdict.UNREACHABLE if outage.removals_frozen else Verdict.DEAD
    return Judgement(verdict, since, None, heard)


def silent_at(base: Base, tunnels: Mapping[TunnelKind, Heard], *, now: float) -> float | None:
    """Return when silence may count of a base that only lives; None where more than silence has to be judged."""
    if base.phase is not Phase.READY or base.signs.leaving.said_at is not None:
        return None
    judgement = judge(base, tunnels, now=now, outage=Outage())
    return judgement.next_at if judgement.verdict is Verdict.ALIVE else None


def listened(base: Base, tunnels: Mapping[TunnelKind, Heard], now: float) -> Heard | None:
    """Return since when and up to when the base could be heard by us; None while none of its tunnels is up.

    Its tunnels are the current one and those that showed life not long before its last sign: silence on a tunnel that
    it never uses says nothing.
    """
    seen = base.signs.seen_over
    last = max(seen.values(), default=0.0)
    used = {kind for kind, at in seen.items() if last - at < DEAD_AFTER} or {base.profile.tunnel}
    up = [tunnels[kind] for kind in used if kind in tunnels]
    if not up:
        return None
    heard = reduce(Heard.both, up)
    return Heard(max(base.term_began, base.suspended_until, heard.since), min(now, heard.until))


MASS_SILENCE_SHARE = 0.55
MASS_SILENCE_LEAST = 5


def mass_silence(silent: int, all_bases: int) -> bool:
    """Return whether so many bases are silent at once that the fault is likely ours."""
    return silent >= MASS_SILENCE_LEAST and silent > MASS_SILENCE_SHARE * all_bases
