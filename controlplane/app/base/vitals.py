"""How one base is: what it says of itself, when it was heard, whether commands reach it, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from controlplane.app.base.inbox import News
from controlplane.app.base.state import Base, Phase
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.metrics import REFUSED_REPORTS
from controlplane.app.ports import Clock, Cluster
from controlplane.domain.base import modules as book
from controlplane.domain.base import vnode
from controlplane.domain.base.liveness import (
    Evidence,
    Judgement,
    Patience,
    Verdict,
    choose_tunnel,
    judge,
    tunnel_up_since,
)
from controlplane.domain.base.vpod import rfc3339
from controlplane.domain.facts import BaseState, Health, Heartbeat, PollFailed, PollFailure
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Pod

log = structlog.get_logger(__name__)

CLASHES_REMEMBERED = 16
"""Addresses that claim the identity of a live base and are reported once each."""


class Vitals:
    """Keeps profile, signs of life and phase of a base.

    removals_frozen tells that too many bases are silent at once; commands_fail says in
    words that commands to most bases fail, empty when they do not.
    """

    def __init__(
        self,
        base: Base,
        *,
        cluster: Cluster,
        clock: Clock,
        gateways: GatewayDirectory,
        recorder: Recorder,
        patience: Patience,
        removals_frozen: Callable[[], bool],
        commands_fail: Callable[[], str],
    ) -> None:
        self._base = base
        self._cluster = cluster
        self._clock = clock
        self._gateways = gateways
        self._recorder = recorder
        self._patience = patience
        self._removals_frozen = removals_frozen
        self._commands_fail = commands_fail
        self._trusted_from = 0
        """Epoch of the first list that says how a base is that was unreachable."""
        self._poll_failed = False
        self._metaspace_used: int | None = None
        self._refused: set[str] = set()
        self.deactivated = False
        """The base said that it goes away."""

    # News.

    def take(self, news: News, now: float) -> None:
        """Take what the base says of itself, and signs of life."""
        base = self._base
        if news.poll_failed is not None:
            self._take_failure(news.poll_failed)
        if news.heartbeat is not None:
            self._take_heartbeat(news.heartbeat, news.gateway, now)
        if news.deactivated is not None:
            self.deactivated |= self._is_the_base(news.deactivated, now)
        if news.heard_at is not None:
            self._alive(news.heard_at, news.gateway)
        if news.answered_at is not None:
            base.last_answered, base.failing = news.answered_at, ""
        if news.health is not None:
            self._take_health(news.health)

    def carried_out(self, gateway: str, now: float) -> None:
        """The base answered an order."""
        self._alive(now, gateway)
        self._base.last_answered, self._base.failing = now, ""

    def note_own_use(self, pods: Sequence[Pod], now: float) -> None:
        """Take what the base uses without its modules: known once it has answered both questions.

        As long as Pods may come for modules of a baseline these cannot be counted.
        """
        base, used = self._base, self._metaspace_used
        if base.profile.base_used is not None or used is None or not base.modules.told:
            return
        present = base.modules.present
        with_pods = {ModuleKey(container.name, container.version) for pod in pods for container in pod.containers}
        if not any(base.modules.spared.get(key, now) > now for key in present.keys() - with_pods):
            base.profile = replace(base.profile, base_used=vnode.own_use(used, present.keys(), pods))

    def _take_failure(self, failed: PollFailed) -> None:
        """A base that is at work on an order may be too busy to answer; that it cannot be reached is another matter."""
        self._poll_failed = True
        busy = failed.failure is PollFailure.NO_ANSWER and bool(self._base.modules.in_flight)
        if failed.modules and failed.failure is not PollFailure.UNSPECIFIED and not busy:
            self._base.failing = failed.reason or failed.failure.value

    def _take_heartbeat(self, heartbeat: Heartbeat, gateway: str, now: float) -> None:
        base = self._base
        if not self._is_the_base(heartbeat, now):
            return
        told = heartbeat.address
        profile = replace(
            base.profile,
            name=heartbeat.name,
            version=heartbeat.version,
            cluster_name=heartbeat.cluster_name,
            host_name=heartbeat.host_name,
            address=told if told.port or not base.profile.address.ip else base.profile.address,
        )
        if profile != base.profile:
            if base.phase is Phase.READY:
                self._tell(warning=False, reason="BaseChanged", message=f"base {base.id} told new properties of itself")
            base.profile = profile
        self.deactivated = False
        self._alive(now, gateway)
        if base.phase is Phase.UNREACHABLE:
            # It may be back: asked now, not when its turn comes.
            base.modules = book.ask_again(base.modules)

    def _is_the_base(self, heartbeat: Heartbeat, now: float) -> bool:
        """Nobody may speak for a base from another address while the base is alive."""
        base = self._base
        known, told = base.profile.address, heartbeat.address
        if not told.port or not known.port or told == known:
            return True
        if now - max(base.last_heard, base.term_began) >= self._patience.unreachable:
            return True
        # After a takeover only the Node's word stands for the old address; when nobody answers there, it is outdated.
        if not base.last_heard and self._poll_failed:
            return True
        REFUSED_REPORTS.labels("address-taken").inc()
        if str(told) not in self._refused and len(self._refused) < CLASHES_REMEMBERED:
            self._refused.add(str(told))
            message = f"{told} claims identity {base.id}, which the live base at {known} has: refused"
            self._tell(warning=True, reason="IdentityClash", message=message)
        return False

    def _take_health(self, health: Health) -> None:
        base = self._base
        base.healthy_answer = True
        if health.state is BaseState.DEACTIVATED:
            self.deactivated = True
        metaspace = health.metaspace or base.profile.metaspace
        if health.metaspace is not None:
            self._metaspace_used = health.metaspace.used
        if base.profile.metaspace is not None and metaspace is not None and metaspace.max == base.profile.metaspace.max:
            # Use moves all the time; only the limit is part of the Node.
            metaspace = base.profile.metaspace
        java_version = health.java_version or base.profile.java_version
        base.profile = replace(base.profile, metaspace=metaspace, java_version=java_version)

    def _alive(self, at: float, gateway: str) -> None:
        base = self._base
        base.last_heard = max(base.last_heard, at)
        connected = self._gateways.get(gateway)
        if connected is not None:
            base.heard_over[connected.link.info.tunnel] = at
        base.last_heard_wall = self._clock.wall()
        if not base.gateway:
            base.gateway = gateway

    # What follows.

    def heard_since_the_tunnel_is_up(self) -> bool:
        """An order that reaches the broker before the base is back there would be lost without a word."""
        tunnel = self._base.profile.tunnel
        up_since = self._gateways.up_since(tunnel)
        return up_since is not None and self._base.heard_over.get(tunnel, float("-inf")) >= up_since

    def choose_tunnel(self, now: float) -> None:
        """Work through the tunnel that shows life."""
        gateways, base = self._gateways, self._base
        chosen = choose_tunnel(
            base.heard_over,
            lambda kind: gateways.up_since(kind) is not None,
            current=base.profile.tunnel,
            now=now,
            patience=self._patience,
        )
        if chosen is not base.profile.tunnel:
            log.info("base is worked through another tunnel", base=base.id, tunnel=chosen.value)
            base.profile = replace(base.profile, tunnel=chosen)

    def not_ready_at_first(self, why: str) -> None:
        """A term begins with a Node that is not Ready: it stays so until the base itself says what it has."""
        self._base.phase, self._base.why = Phase.UNREACHABLE, why
        self._trusted_from = self._base.modules.begins

    def judge(self, now: float, *, node_removed: bool) -> float | None:
        """Decide in which phase the base is; return when that may change without news.

        node_removed: its Node was removed by somebody else.
        """
        base = self._base
        if self.deactivated:
            base.phase, base.why = Phase.DEAD, "the base said that it goes away"
            return None
        # A Node that was removed by hand while its base is silent is not brought back.
        if base.phase is Phase.UNREACHABLE and node_removed:
            base.phase, base.why = Phase.DEAD, "its Node was removed while it was silent"
            return None
        judgement = self._judgement(now)
        silent = now - judgement.silent_since
        match judgement.verdict:
            case Verdict.DEAD:
                base.phase, base.why = Phase.DEAD, f"no sign of life for {silent:.0f} s"
            case Verdict.UNREACHABLE if base.phase is not Phase.UNREACHABLE:
                self._unreachable(f"no sign of life for {silent:.0f} s")
            case Verdict.ONE_WAY if base.phase is not Phase.UNREACHABLE:
                since = rfc3339(self._clock.wall() - silent)
                where = f"{base.profile.address} does" if base.profile.address.port else "it does"
                self._unreachable(f"it beats, but {where} not answer commands since {since}: {base.failing}")
            case Verdict.ALIVE if base.phase in (Phase.UNREACHABLE, Phase.DEAD) and self._has_said_what_it_has():
                base.phase, base.why = Phase.READY, ""
                base.modules = book.recovered(base.modules)
                self._tell(warning=False, reason="BaseReachable", message=f"base {base.id} answers again")
            case _:
                pass
        if base.phase in (Phase.CLAIMED, Phase.READY):
            base.why = self._no_commands()
        return judgement.next_at

    def _no_commands(self) -> str:
        """Return what keeps commands from a base that does not count as unreachable, empty when nothing does."""
        base = self._base
        cause = f": {base.profile.address}: {base.failing}" if base.failing else ""
        if base.phase is Phase.CLAIMED:
            return f"it has not answered a command yet{cause}"
        fail = self._commands_fail()
        return f"{fail}{cause}" if fail and cause else ""

    def _judgement(self, now: float) -> Judgement:
        base, gateways = self._base, self._gateways
        up_since = tunnel_up_since(
            base.heard_over, gateways.up_since, current=base.profile.tunnel, patience=self._patience
        )
        return judge(
            Evidence(base.term_began, base.last_heard, up_since, base.last_answered, bool(base.failing)),
            now=now,
            patience=self._patience,
            removals_frozen=self._removals_frozen(),
            commands_fail=bool(self._commands_fail()),
        )

    def _unreachable(self, why: str) -> None:
        base = self._base
        base.phase, base.why = Phase.UNREACHABLE, why
        # What was known before an absence counts only once the base has said anew what it has.
        base.modules = book.ask_again(base.modules)
        self._trusted_from = base.modules.epoch
        self._tell(warning=True, reason="BaseUnreachable", message=f"base {base.id}: {base.why}")

    def _has_said_what_it_has(self) -> bool:
        return self._base.modules.told and self._base.modules.heard >= self._trusted_from

    def _tell(self, *, warning: bool, reason: str, message: str) -> None:
        vnode = self._base.vnode
        self._recorder.node(self._cluster.nodes.get(vnode), vnode, warning=warning, reason=reason, message=message)
