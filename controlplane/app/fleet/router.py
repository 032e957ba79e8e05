"""What gateways report of bases: put into the base's inbox, or kept for a while where it has no actor here.

Whatever comes from a base or gateway may be wrong: what cannot be is counted, logged and has no effect.
"""

from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from controlplane.app.gateways import Link
from controlplane.app.metrics import REFUSED_REPORTS, REPORTS
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership
from controlplane.app.ports import Clock
from controlplane.app.roster import Given, Roster
from controlplane.app.unserved import Unserved
from controlplane.app.workloads.baselines import Baselines
from controlplane.domain.base.sources import disbelief
from controlplane.domain.facts import (
    BaselineQuery,
    BaseState,
    BatchInstalled,
    Fact,
    FenceSeen,
    Health,
    Heartbeat,
    ModuleList,
    OrderResult,
    PollFailed,
    TunnelKind,
    Way,
)
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.lease import first_fence
from controlplane.domain.ownership.replicas import rank
from controlplane.domain.workloads.askers import Asker, asker
from service.limits import LogLimit, Recent

log = structlog.get_logger(__name__)

MOST_HELD = 1024
HELD = 30.0
"""Baseline questions that wait until their base was examined, and for how many seconds."""
LOG_EVERY = 60.0
"""Seconds between two log lines of one kind about one base or gateway."""

_KINDS = {
    Heartbeat: "heartbeat",
    Health: "health",
    ModuleList: "modules",
    PollFailed: "poll-failed",
    FenceSeen: "fence-seen",
    OrderResult: "order-result",
    BatchInstalled: "batch-install-result",
    BaselineQuery: "baseline-query",
}


@dataclass(frozen=True, slots=True)
class ReportRouter:
    """Takes reports that were checked (``controlplane.rpc.tunnel.decoding``)."""

    roster: Roster
    leases: LeaseKeeper
    members: Membership
    baselines: Baselines
    clock: Clock
    _held: Recent[tuple[BaseId, Way], tuple[Link, BaselineQuery, float]] = field(
        default_factory=lambda: Recent(MOST_HELD), init=False
    )
    _lines: LogLimit = field(default_factory=lambda: LogLimit(LOG_EVERY), init=False)

    async def run(self) -> NoReturn:
        """Answer the questions of bases that were examined meanwhile."""
        while True:
            await self.roster.admitted.wait()
            admitted, now = self.roster.admitted.take(), self.clock.monotonic()
            for key in [key for key in self._held if key[0] in admitted]:
                link, query, at = self._held.pop(key)
                if now - at < HELD:
                    self._answer(link, key[0], query, now)

    def report(self, link: Link, base: BaseId, fact: Fact | OrderResult) -> None:
        """Take any report of a base."""
        REPORTS.labels(_KINDS[type(fact)]).inc()
        now, entry = self.clock.monotonic(), self.roster.entry(base)
        if isinstance(fact, BaselineQuery):
            self._answer(link, base, fact, now)
        elif isinstance(fact, Heartbeat) and fact.state is BaseState.UNKNOWN:
            REFUSED_REPORTS.labels("state").inc()
        elif entry is not None:
            wall = self.clock.wall()
            newest_fence = first_fence(wall, 0)
            if why := disbelief(entry.base, fact, link.info, now=now, newest_fence=newest_fence):
                self._disbelieved(link, base, why, now)
                return
            entry.report(fact, link.info, now, wall)
        elif isinstance(fact, Heartbeat):
            self._keep(base, Unserved(fact, link.info, now))
        elif not (isinstance(fact, BatchInstalled) and self.roster.installed(base, Unserved(fact, link.info, now))):
            REFUSED_REPORTS.labels("unknown-base").inc()

    def _disbelieved(self, link: Link, base: BaseId, why: str, now: float) -> None:
        """Count what a gateway may not say; of one gateway and reason, one line in LOG_EVERY seconds."""
        REFUSED_REPORTS.labels(why).inc()
        if (held := self._lines.admit(f"{link.info.gateway_id} {why}", now)) is not None:
            log.info("gateway not believed", gateway=link.info.gateway_id, base=base, reason=why, more=held)

    def _keep(self, base: BaseId, unserved: Unserved[Heartbeat]) -> None:
        """Keep what a base that is not ours sent, in case it becomes ours."""
        if self.leases.elsewhere(base):
            self.roster.forget(base)
        elif unserved.fact.state is BaseState.DEACTIVATED:
            # Nothing is lost by a base that only seems to go away: one that does will not answer.
            REFUSED_REPORTS.labels("goodbye").inc()
        elif not self.roster.keep(base, unserved, known=self.baselines.node(base) is not None):
            REFUSED_REPORTS.labels("too-many-bases").inc()

    def _answer(self, link: Link, base: BaseId, query: BaselineQuery, now: float) -> None:
        """Answer a starting base that asks for its modules, from the Deployments as they are.

        One replica answers. The others keep what the base is given, since any of them may become its owner. A question
        that comes again was not answered: then all answer, and the gateway takes the first answer.
        """
        if not self.baselines.ready:
            REFUSED_REPORTS.labels("not-ready").inc()
            return
        who = asker(self.roster.get(base), self.baselines.node(base), query.way)
        if who is not Asker.BASE:
            self._hold_back(link, base, query, who)
            return
        baseline = self.baselines.of(base, query)
        before = self.roster.given(base)
        again = before is not None and before.query_id == query.query_id
        kept = self.roster.give(base, Given(query.query_id, tuple(module.key for module in baseline.modules), now))
        if again or not kept or self._is_ours_to_answer(base, link.info.tunnel):
            link.baseline(base, query.query_id, baseline)
            log.info("baseline answered", base=base, modules=len(baseline.modules))

    def _hold_back(self, link: Link, base: BaseId, query: BaselineQuery, who: Asker) -> None:
        REFUSED_REPORTS.labels(who.value).inc()
        now = self.clock.monotonic()
        if who is Asker.UNKNOWN:
            self._held[base, query.way] = link, query, now
        elif (held := self._lines.admit(base, now)) is not None:
            log.warning("baseline not given to a stranger", base=base, peer=query.way.peer, more=held)

    def _is_ours_to_answer(self, base: BaseId, tunnel: TunnelKind) -> bool:
        """Return whether this replica answers a base: its owner does, else the replica that is first for it."""
        if self.roster.entry(base) is not None:
            return True
        me, takers = self.members.me, self.members.takers(tunnel.value)
        return me in takers and rank(me, base, takers) == 0 and not self.leases.elsewhere(base)
