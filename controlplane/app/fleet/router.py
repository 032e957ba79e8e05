"""What gateways report of bases: put into the base's inbox, or kept for a while where it has no actor here.

Whatever comes from a base or gateway may be wrong: what cannot be is counted, logged and has no effect.
"""

from dataclasses import dataclass

import structlog

from controlplane.app.gateways import Link
from controlplane.app.metrics import REFUSED_REPORTS, REPORTS
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership
from controlplane.app.ports import Clock
from controlplane.app.roster import Given, Roster
from controlplane.app.unserved import Unserved
from controlplane.app.workloads.baselines import Baselines
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
)
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.replicas import rank

log = structlog.get_logger(__name__)

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

    def report(self, link: Link, base: BaseId, fact: Fact | OrderResult) -> None:
        """Take any report of a base."""
        REPORTS.labels(_KINDS[type(fact)]).inc()
        now, entry = self.clock.monotonic(), self.roster.entry(base)
        if isinstance(fact, BaselineQuery):
            self._answer(link, base, fact, now)
        elif isinstance(fact, Heartbeat) and fact.state is BaseState.UNKNOWN:
            REFUSED_REPORTS.labels("state").inc()
        elif entry is not None:
            entry.news.add(fact, link.info, now)
            entry.wake.set()
        elif isinstance(fact, Heartbeat):
            self._keep(base, Unserved(fact, link.info, now))
        elif not (isinstance(fact, BatchInstalled) and self.roster.installed(base, Unserved(fact, link.info, now))):
            REFUSED_REPORTS.labels("unknown-base").inc()

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
        baseline = self.baselines.of(base, query)
        before = self.roster.given(base)
        again = before is not None and before.query_id == query.query_id
        kept = self.roster.give(base, Given(query.query_id, tuple(module.key for module in baseline.modules), now))
        if again or not kept or self._is_ours_to_answer(base, link.info.tunnel):
            link.baseline(base, query.query_id, baseline)
            log.info("baseline answered", base=base, modules=len(baseline.modules))

    def _is_ours_to_answer(self, base: BaseId, tunnel: TunnelKind) -> bool:
        """Return whether this replica answers a base: its owner does, else the replica that is first for it."""
        if self.roster.entry(base) is not None:
            return True
        me, takers = self.members.me, self.members.takers(tunnel.value)
        return me in takers and rank(me, base, takers) == 0 and not self.leases.elsewhere(base)
