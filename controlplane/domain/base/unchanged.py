"""Reports that say only that a base is as it was: most of all that arrives, and nothing to decide about.

They are counted together until something happens, or until the silence of the base would count.
"""

from dataclasses import dataclass, replace

from controlplane.domain import quantities
from controlplane.domain.base import leaving
from controlplane.domain.base.state import Base, Phase, Signs
from controlplane.domain.facts import BaseState, Fact, GatewayInfo, Health, Heartbeat, ModuleList, OrderResult


@dataclass(slots=True)
class Unchanged:
    """What arrived of this kind since the actor last looked. Times are monotonic, walls seconds since the epoch."""

    source: GatewayInfo | None = None
    at: float = 0.0
    wall: float = 0.0
    heartbeat: Heartbeat | None = None
    heartbeat_at: float = 0.0
    answered_at: float | None = None
    health: Health | None = None
    health_wall: float = 0.0

    def take(self, base: Base, fact: Fact | OrderResult, source: GatewayInfo, now: float, wall: float) -> bool:
        """Take a report that is believed, if it says only that a base is as it was; return whether it does."""
        if not _is_unchanged(base, fact, source) or (isinstance(fact, Health) and self._counts_anew(base, fact)):
            return False
        self.source, self.at, self.wall = source, now, wall
        match fact:
            case Heartbeat():
                self.heartbeat, self.heartbeat_at = fact, now
            case Health():
                self.health, self.health_wall = fact, wall
            case ModuleList():
                self.answered_at = now
        return True

    def _counts_anew(self, base: Base, health: Health) -> bool:
        """Return whether an answer leaves something out, or counts from 0 again: the next one must not hide that."""
        counted, waiting = base.signs.counted, self.health
        said = waiting.cpu if waiting is not None else counted.said
        same = (health.heap is None) == (counted.heap is None) and (health.cpu is None) == (said is None)
        return not same or (health.cpu is not None and said is not None and health.cpu < said)


def _is_unchanged(base: Base, fact: Fact | OrderResult, source: GatewayInfo) -> bool:
    signs, profile, known = base.signs, base.profile, base.modules
    calm = (
        base.phase is Phase.READY
        and base.admitted
        and source.tunnel is profile.tunnel
        and not (signs.failing or known.in_flight)
        and signs.leaving.said_at is None
    )
    if not calm:
        return False
    match fact:
        case Heartbeat():
            same = fact.state is not BaseState.DEACTIVATED and profile.is_reported_by(fact)
            return same and leaving.known_way(signs.leaving, fact.way)
        case Health():
            return signs.healthy and fact.state is not BaseState.DEACTIVATED and _same_machine(base, fact)
        case ModuleList():
            same = fact.unchanged and fact.complete and known.listed
            return same and not known.needs and fact.epoch <= known.list_epoch
    return False


def heard(base: Base, news: Unchanged) -> Base:
    """Return the base with what such reports say: that it lives, and what it uses."""
    if news.source is None:
        return base
    signs = base.signs.alive(news.source.tunnel, news.at, news.wall)
    if news.answered_at is not None:
        signs = replace(signs, last_answered=news.answered_at)
    if news.heartbeat is not None:
        same_way = leaving.heartbeat(signs.leaving, news.heartbeat.way, news.heartbeat_at)
        signs = replace(signs, leaving=same_way)
    if news.health is not None:
        signs = used(signs, news.health, len(base.modules.present), news.health_wall)
    return replace(base, signs=signs)


def used(signs: Signs, health: Health, modules: int, wall: float) -> Signs:
    """Take what a base with so many modules says that it uses, if it does."""
    if health.metaspace is None:
        return signs
    return replace(signs, metaspace_used=health.metaspace.used, counted=signs.counted.after(health, modules, wall))


def _same_machine(base: Base, health: Health) -> bool:
    profile, metaspace = base.profile, health.metaspace
    return (
        (not health.cpus or profile.cpu == quantities.shortest(health.cpus, binary=False))
        and health.java_version in ("", profile.java_version)
        and metaspace is not None
        and profile.base_used is not None
        and profile.metaspace == metaspace.max
    )
