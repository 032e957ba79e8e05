"""What arrives of one base, and how it then is: what it reports, when it was last seen, whether commands reach it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controlplane.domain import quantities
from controlplane.domain.base import leaving, modules
from controlplane.domain.base.hearing import Heard
from controlplane.domain.base.leaving import Leaving
from controlplane.domain.base.liveness import UNREACHABLE_AFTER, Judgement, Outage, Verdict, judge, listened
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.base.unchanged import Unchanged, heard, used
from controlplane.domain.facts import (
    BaselineQuery,
    BaseState,
    BatchInstalled,
    Fact,
    FenceSeen,
    GatewayInfo,
    Health,
    Heartbeat,
    ModuleList,
    OrderResult,
    PollFailed,
    PollFailure,
    TunnelKind,
)
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Pod
from controlplane.domain.remarks import Remark
from controlplane.domain.times import rfc3339

IMPOSTERS_KEPT = 16
"""Addresses that used the identity of a live base and are reported once each."""


@dataclass(slots=True)
class News:
    """What arrived since the actor last looked; source is the gateway that last showed life. Times are monotonic.

    Bounded without losing anything that counts: newer heartbeats, health answers and module lists replace older ones,
    and there are at most as many results as there were orders.
    """

    source: GatewayInfo | None = None
    heartbeat: Heartbeat | None = None
    deactivated: Heartbeat | None = None
    health: Health | None = None
    modules: ModuleList | None = None
    results: list[tuple[OrderResult, float]] = field(default_factory=list)
    poll_failed: PollFailed | None = None
    seen_at: float | None = None
    answered_at: float | None = None
    baseline: BatchInstalled | None = None
    """What became of what the base was given at its start."""
    fence_seen: int = 0
    given: tuple[ModuleKey, ...] = ()
    """Modules of a baseline that the base was given."""
    dismissed: bool = False
    """Others wait for the place at which it is examined."""
    touched_at: float | None = None
    """When something in the cluster first changed that concerns the base."""
    unchanged: Unchanged = field(default_factory=Unchanged)

    def add(self, fact: Fact | OrderResult, source: GatewayInfo, now: float) -> None:
        """Add a report; whether a heartbeat is the base's own is for the actor to judge."""
        match fact:
            case Heartbeat(state=BaseState.DEACTIVATED):
                self.deactivated = fact
            case Heartbeat():
                self.heartbeat, self.source, self.deactivated = fact, source, None
            case Health():
                self.health = fact
                self._seen(source, now)
            case ModuleList():
                self._list(fact)
                self.poll_failed, self.answered_at = None, now
                self._seen(source, now)
            case PollFailed():
                if fact.modules or self.poll_failed is None:
                    self.poll_failed = fact
                if fact.failure is PollFailure.NEGATIVE:
                    self._seen(source, now)
            case FenceSeen():
                self.fence_seen = max(self.fence_seen, fact.fence)
            case BatchInstalled():
                self.baseline = fact
                self._seen(source, now)
            case OrderResult():
                # Alone it is no sign of life.
                self.results.append((fact, now))
                self.source = source
            case BaselineQuery():
                pass

    def _list(self, modules: ModuleList) -> None:
        waiting = self.modules
        if waiting is not None and modules.unchanged and waiting.complete:
            # The waiting full list answers this newer question too.
            modules = replace(waiting, epoch=max(waiting.epoch, modules.epoch))
        self.modules = modules

    def _seen(self, source: GatewayInfo, now: float) -> None:
        self.source, self.seen_at = source, now


def take(base: Base, news: News, tunnels: Mapping[TunnelKind, Heard], *, now: float, wall: float) -> Base:
    """Take what the base reports of itself, and signs of life; tunnels has those that are up."""
    base = heard(base, news.unchanged)
    if news.dismissed:
        base = replace(base, signs=replace(base.signs, dismissed=True))
    if news.poll_failed is not None:
        base = _take_failure(base, news.poll_failed, now)
    if news.heartbeat is not None:
        base = _take_heartbeat(base, news.heartbeat, news, tunnels, now=now, wall=wall)
    if news.deactivated is not None:
        base, own = _own(base, news.deactivated, tunnels, now)
        if own:
            base = _with(base, leaving.goodbye(base.signs.leaving, news.deactivated.way, now))
    if news.seen_at is not None:
        base = alive(base, news, at=news.seen_at, wall=wall)
        base = _with(base, leaving.answered(base.signs.leaving))
    if news.answered_at is not None:
        base = replace(base, signs=replace(base.signs, last_answered=news.answered_at, failing=""))
    return _take_health(base, news.health, now, wall) if news.health is not None else base


def alive(base: Base, news: News, *, at: float, wall: float, answered: bool = False) -> Base:
    """Note that the base showed life; answered: it answered an order."""
    source = news.source
    signs = base.signs.alive(source.tunnel if source is not None else None, at, wall)
    if answered:
        signs = replace(signs, last_answered=at, failing="")
    return replace(base, signs=signs, gateway=base.gateway or (source.gateway_id if source is not None else ""))


def note_own_use(base: Base, pods: Sequence[Pod], now: float) -> Base:
    """Take what the base uses without its modules: known once it has answered both questions.

    Modules that are there count as what their Pods request, once for each module: for the scheduler these requests are
    used, too. As long as Pods may come for modules of a baseline these cannot be counted.
    """
    used, known = base.signs.metaspace_used, base.modules
    if base.profile.base_used is not None or used is None or not known.listed:
        return base
    requested: dict[ModuleKey, int] = {}
    for pod in pods:
        for container in pod.containers:
            key = container.key
            if key in known.present:
                requested[key] = max(requested.get(key, 0), container.memory)
    if any(known.spared.get(key, now) > now for key in known.present.keys() - requested.keys()):
        return base
    own = max(used - sum(requested.values()), 0)
    return replace(base, profile=replace(base.profile, base_used=own))


def not_ready_at_first(base: Base, why: str) -> Base:
    """Begin a term with a Node that is not Ready: it stays so until the base itself says what it has."""
    signs = replace(base.signs, trusted_from=base.modules.begins)
    return replace(base, phase=Phase.UNREACHABLE, why=why, signs=signs)


def use_tunnel(base: Base, tunnels: Mapping[TunnelKind, Heard], *, now: float) -> Base:
    """Use the same tunnel as long as it is up and shows life, else the liveliest; tunnels has those that are up."""
    seen, current = base.signs.seen_over, base.profile.tunnel
    if current in tunnels and min(now, tunnels[current].until) - seen.get(current, now) < UNREACHABLE_AFTER:
        return base
    live = {kind: at for kind, at in seen.items() if kind in tunnels and now - at < UNREACHABLE_AFTER}
    chosen = max(live, key=lambda kind: live[kind], default=current)
    return base if chosen is current else replace(base, profile=replace(base.profile, tunnel=chosen))


def seen_since_tunnel_up(base: Base, up_since: Mapping[TunnelKind, float]) -> bool:
    """Return whether an order may be sent: before the base is back at the broker it would be lost without a word."""
    tunnel = base.profile.tunnel
    return tunnel in up_since and base.signs.seen_over.get(tunnel, float("-inf")) >= up_since[tunnel]


def judged(
    base: Base,
    tunnels: Mapping[TunnelKind, Heard],
    *,
    now: float,
    wall: float,
    outage: Outage,
    has_node: bool,
    node_removed: bool,
) -> tuple[Base, float | None]:
    """Return the base in the phase that it is in now, and when that may change without news.

    tunnels has those that are up.
    node_removed: its Node was removed by somebody else.
    """
    if not base.admitted and (base.signs.healthy or base.modules.listed):
        base = replace(base, admitted=True)
    if not base.admitted and base.signs.dismissed:
        cause = base.signs.failing or "no answer"
        return replace(
            base, phase=Phase.DEAD, why=f"it does not answer commands: {base.profile.address}: {cause}"
        ), None
    # A Node that was removed by hand while its base is silent is not brought back.
    if base.phase is Phase.UNREACHABLE and node_removed:
        return replace(base, phase=Phase.DEAD, why="its Node was removed while it was silent"), None
    judgement = judge(base, tunnels, now=now, outage=outage)
    base, goodbye_at = _judge_goodbye(base, judgement, now)
    if base.signs.leaving.believed:
        return replace(base, phase=Phase.DEAD, why=base.signs.leaving.believed), None
    silent = now - judgement.silent_since
    match judgement.verdict:
        case Verdict.DEAD:
            base = replace(base, phase=Phase.DEAD, why=f"no sign of life for {silent:.0f} s")
        case Verdict.UNREACHABLE if base.phase is not Phase.UNREACHABLE:
            base = _unreachable(base, f"no sign of life for {silent:.0f} s")
        case Verdict.ONE_WAY if base.phase is not Phase.UNREACHABLE:
            since, address = rfc3339(wall - silent), base.profile.address
            where = f"{address} does" if address.port else "it does"
            why = f"it sends heartbeats, but {where} not answer commands since {since}: {base.signs.failing}"
            base = _unreachable(base, why)
        case Verdict.ALIVE if base.phase in (Phase.UNREACHABLE, Phase.DEAD) and _has_listed(base):
            base = replace(base, phase=Phase.READY, why="", modules=modules.recovered(base.modules))
        case _:
            pass
    if base.phase is Phase.CLAIMED and has_node:
        base = replace(base, phase=Phase.READY)
    if base.phase in (Phase.CLAIMED, Phase.READY) and (why := _no_commands(base, outage)) != base.why:
        base = replace(base, why=why)
    return base, min((at for at in (judgement.next_at, goodbye_at) if at is not None), default=None)


def remarks(before: Base, after: Base) -> Iterator[Remark]:
    """Yield what is to be said of a base for how it changed."""
    for address in after.signs.imposters[len(before.signs.imposters) :]:
        known = after.profile.address
        message = f"{address} uses identity {after.id}, which the base at {known} has: refused"
        yield Remark(True, "IdentityClash", message)
    doubt = after.signs.leaving.doubt
    if before.signs.leaving.doubt_shown_at != after.signs.leaving.doubt_shown_at:
        yield Remark(True, "GoodbyeRefused", f"base {after.id} is not removed: {doubt}")
    if before.phase is Phase.READY and before.profile.reported != after.profile.reported:
        yield Remark(False, "BaseChanged", f"base {after.id} reports new properties of itself")
    if before.phase is after.phase:
        return
    if after.phase is Phase.UNREACHABLE:
        yield Remark(True, "BaseUnreachable", f"base {after.id}: {after.why}")
    elif before.phase is Phase.UNREACHABLE and after.phase is Phase.READY:
        yield Remark(False, "BaseReachable", f"base {after.id} answers again")


def _take_failure(base: Base, failed: PollFailed, now: float) -> Base:
    """A base that is at work on an order may be too busy to answer; that it cannot be reached is another matter."""
    signs = replace(base.signs, poll_failed_at=now)
    busy = failed.failure is PollFailure.NO_ANSWER and bool(base.modules.in_flight)
    if failed.modules and failed.failure is not PollFailure.UNSPECIFIED and not busy:
        signs = replace(signs, failing=failed.reason or failed.failure.value)
    if not busy:
        signs = replace(signs, leaving=leaving.failed(signs.leaving, failed.failure))
    return replace(base, signs=signs)


def _take_heartbeat(
    base: Base, heartbeat: Heartbeat, news: News, tunnels: Mapping[TunnelKind, Heard], *, now: float, wall: float
) -> Base:
    base, own = _own(base, heartbeat, tunnels, now)
    if not own:
        return base
    profile = base.profile.with_heartbeat(heartbeat)
    if profile != base.profile:
        base = replace(base, profile=profile)
    base = alive(base, news, at=now, wall=wall)
    base = _with(base, leaving.heartbeat(base.signs.leaving, heartbeat.way, now))
    if base.phase is Phase.UNREACHABLE:
        # It may be back: asked now, not when its turn comes.
        base = replace(base, modules=modules.ask_again(base.modules))
    return base


def _own(base: Base, heartbeat: Heartbeat, tunnels: Mapping[TunnelKind, Heard], now: float) -> tuple[Base, bool]:
    """Return whether a heartbeat is the base's own: nobody may use its identity elsewhere while it may be alive."""
    signs, known, address = base.signs, base.profile.address, heartbeat.address
    if not address.port or not known.port or address == known:
        return base, True
    heard = listened(base, tunnels, now)
    if heard is not None:
        if heard.until - max(signs.last_seen, heard.since) >= UNREACHABLE_AFTER:
            return base, True
        # It was not seen since it can be heard: when nobody answers at the old address either, that is outdated.
        if signs.last_seen < heard.since <= signs.poll_failed_at:
            return base, True
    imposters = signs.imposters
    if str(address) not in imposters and len(imposters) < IMPOSTERS_KEPT:
        imposters = (*imposters, str(address))
    return replace(base, signs=replace(signs, imposters=imposters, refused=signs.refused + 1)), False


def _judge_goodbye(base: Base, judgement: Judgement, now: float) -> tuple[Base, float | None]:
    """Return the base with what its goodbye means now, and when that may change without news."""
    if judgement.heard is None:
        return base, None
    judged = leaving.judge(base.signs.leaving, last_seen=base.signs.last_seen, heard=judgement.heard, now=now)
    if judged.ask:
        base = replace(base, modules=modules.ask_again(base.modules))
    return _with(base, judged.leaving), judged.next_at


def _with(base: Base, goodbye: Leaving) -> Base:
    if goodbye is base.signs.leaving:
        return base
    return replace(base, signs=replace(base.signs, leaving=goodbye))


def _take_health(base: Base, health: Health, now: float, wall: float) -> Base:
    signs, profile = replace(base.signs, healthy=True), base.profile
    signs = replace(signs, leaving=leaving.healthy(signs.leaving, health.state, now))
    # A base may leave out of one answer what it has in another; that of a takeover is only what the Node shows.
    cpu = profile.cpu if base.signs.healthy else ""
    if health.cpus:
        cpu = quantities.shortest(health.cpus, binary=False)
    known = replace(profile, java_version=health.java_version or profile.java_version, cpu=cpu)
    signs = used(signs, health, len(base.modules.present), wall)
    if health.metaspace is not None:
        known = replace(known, metaspace=health.metaspace.max)
    return replace(base, signs=signs, profile=profile if known == profile else known)


def _unreachable(base: Base, why: str) -> Base:
    """What was known before an absence counts only once the base has listed its modules again."""
    asked = modules.ask_again(base.modules)
    signs = replace(base.signs, trusted_from=asked.epoch)
    return replace(base, phase=Phase.UNREACHABLE, why=why, modules=asked, signs=signs)


def _has_listed(base: Base) -> bool:
    return base.modules.listed and base.modules.list_epoch >= base.signs.trusted_from


def _no_commands(base: Base, outage: Outage) -> str:
    """Return what keeps commands from a base that does not count as unreachable, empty when nothing does."""
    failing = base.signs.failing
    cause = f": {base.profile.address}: {failing}" if failing else ""
    if base.phase is Phase.CLAIMED:
        return f"it has not answered a command yet{cause}"
    return f"{outage.commands_fail}{cause}" if outage.commands_fail and cause else ""
