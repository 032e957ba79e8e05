"""What gateways report of bases: handed to the base's actor, or kept for a while where it has none here.

Whatever comes from a base or gateway may be wrong: what cannot be is counted, logged
and has no effect. What is kept is bounded by ``Policy.most_bases``, and by time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import assert_never

import structlog

from controlplane.app.base.actor import BaseActor
from controlplane.app.base.state import Base
from controlplane.app.events import Recorder
from controlplane.app.gateways import Link
from controlplane.app.metrics import REFUSED_REPORTS, REPORTS
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster
from controlplane.app.workloads.baselines import Baselines, failures
from controlplane.domain.base.replies import describe
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
from controlplane.domain.identity import BaseId, ModuleKey
from controlplane.domain.objects import Container

log = structlog.get_logger(__name__)

TOLD_OF_A_BASELINE = 20
"""Failed modules of one baseline that are told one by one."""

HEARD_FOR = 30.0
"""Seconds for which a heartbeat of a base that nobody serves is kept."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last heartbeat of a base that this replica does not serve; at is monotonic."""

    heartbeat: Heartbeat
    tunnel: TunnelKind
    gateway: str
    at: float


@dataclass(frozen=True, slots=True)
class Given:
    """What a base that asked lately was given, by this replica or by the one that is to answer; at is monotonic."""

    query_id: str
    modules: tuple[ModuleKey, ...]
    at: float


class Hearing:
    """Takes reports, which are checked (``controlplane.rpc.tunnel.decoding``).

    actor finds the actor of a base that is served here, and served counts them; elsewhere
    says whether a base is another live replica's; answers whether a question that a base
    asks over a tunnel is this replica's to answer; note is called when a base was heard
    that nobody here serves.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        clock: Clock,
        recorder: Recorder,
        policy: Policy,
        actor: Callable[[BaseId], BaseActor | None],
        served: Callable[[], int],
        elsewhere: Callable[[BaseId], bool],
        answers: Callable[[BaseId, TunnelKind], bool],
        note: Callable[[BaseId], None],
    ) -> None:
        self._baselines = Baselines(cluster, policy)
        self._clock = clock
        self._recorder = recorder
        self._policy = policy
        self._actor = actor
        self._served = served
        self._elsewhere = elsewhere
        self._answers = answers
        self._note = note
        self._given: dict[BaseId, Given] = {}
        self._heard: dict[BaseId, Heard] = {}

    def reported(self, link: Link, base: BaseId, fact: Fact) -> None:
        """Any report of a base."""
        match fact:
            case Heartbeat():
                self.heartbeat(link, base, fact)
            case Health():
                self.health(link, base, fact)
            case ModuleList():
                self.modules(link, base, fact)
            case BaselineQuery():
                self.baseline_query(link, base, fact)
            case BatchInstalled():
                self.batch_installed(link, base, fact)
            case FenceSeen():
                self.fence_seen(base, fact)
            case PollFailed():
                self.poll_failed(link, base, fact)
            case _ as never:
                assert_never(never)

    def heartbeat(self, link: Link, base: BaseId, heartbeat: Heartbeat) -> None:
        """A base beat."""
        REPORTS.labels("heartbeat").inc()
        actor = self._actor(base)
        if heartbeat.state is BaseState.DEACTIVATED:
            self._heard.pop(base, None)
            if actor is not None:
                actor.inbox.deactivated(heartbeat)
        elif heartbeat.state is BaseState.UNKNOWN:
            REFUSED_REPORTS.labels("state").inc()
        elif actor is not None:
            actor.inbox.heartbeat(heartbeat, link.info.gateway_id)
        else:
            self._hear(base, Heard(heartbeat, link.info.tunnel, link.info.gateway_id, self._clock.monotonic()))

    def _hear(self, base: BaseId, heard: Heard) -> None:
        """Keep what a base that is not ours said, in case it becomes ours."""
        if self._elsewhere(base):
            self._heard.pop(base, None)
        elif base not in self._heard and self._served() + len(self._heard) >= self._policy.most_bases:
            REFUSED_REPORTS.labels("too-many-bases").inc()
        else:
            self._heard[base] = heard
            self._note(base)

    def health(self, link: Link, base: BaseId, health: Health) -> None:
        """A base answered a health question."""
        REPORTS.labels("health").inc()
        if (actor := self._known(base)) is not None:
            actor.inbox.health(health, link.info.gateway_id, self._clock.monotonic())

    def modules(self, link: Link, base: BaseId, modules: ModuleList) -> None:
        """A base told its modules."""
        REPORTS.labels("modules").inc()
        if (actor := self._known(base)) is not None:
            actor.inbox.modules(modules, link.info.gateway_id, self._clock.monotonic())

    def poll_failed(self, link: Link, base: BaseId, failed: PollFailed) -> None:
        """A base could not be asked."""
        REPORTS.labels("poll-failed").inc()
        if (actor := self._known(base)) is not None:
            actor.inbox.poll_failed(failed, link.info.gateway_id, self._clock.monotonic())
        log.debug("poll failed", base=base, gateway=link.info.gateway_id, cause=failed.reason)

    def fence_seen(self, base: BaseId, seen: FenceSeen) -> None:
        """A gateway refused what we sent for a base."""
        REPORTS.labels("fence-seen").inc()
        if (actor := self._known(base)) is not None:
            actor.inbox.fence_seen(seen.fence)

    def result(self, link: Link, base: BaseId, result: OrderResult) -> None:
        """An order ended."""
        REPORTS.labels("order-result").inc()
        if (actor := self._known(base)) is not None:
            actor.inbox.result(result, link.info.gateway_id, self._clock.monotonic())

    def batch_installed(self, link: Link, base: BaseId, batch: BatchInstalled) -> None:
        """A base told how its baseline went."""
        REPORTS.labels("batch-install-result").inc()
        actor = self._known(base)
        if actor is None:
            return
        failed = failures(batch)
        for url, reply in failed[:TOLD_OF_A_BASELINE]:
            message = f"baseline of {base}: {url} {describe(reply)}"
            self._recorder.module(actor.base.vnode, url, warning=True, reason="BaselineInstallFailed", message=message)
        log.info("baseline installed", base=base, modules=len(batch.items), failed=len(failed))
        actor.inbox.baseline(link.info.gateway_id, self._clock.monotonic())

    def baseline_query(self, link: Link, base: BaseId, query: BaselineQuery) -> None:
        """A starting base asks for its modules: answered at once by one replica, from the Deployments as they are.

        The others keep what it is given, since any of them may become the owner of the
        base. A question that comes again was not answered: then all answer, and the gateway
        takes the first answer.
        """
        REPORTS.labels("baseline-query").inc()
        if not self._baselines.ready:
            REFUSED_REPORTS.labels("not-ready").inc()
            return
        given = self._baselines.of(base, query, self._base(base))
        again = base in self._given and self._given[base].query_id == query.query_id
        kept = self._keep_given(base, Given(query.query_id, given.keys, self._clock.monotonic()))
        if again or not kept or self._answers(base, link.info.tunnel):
            link.baseline(base, query.query_id, given)
            log.info("baseline answered", base=base, modules=len(given.modules))

    def _keep_given(self, base: BaseId, given: Given) -> bool:
        """Keep what a base is given for its actor; return False if there is no room for it."""
        if (actor := self._actor(base)) is not None:
            actor.inbox.given(given.modules)
        elif base in self._given or len(self._given) < self._policy.most_bases:
            self._given[base] = given
        else:
            return False
        return True

    def baseline(self, base: BaseId, query: BaselineQuery) -> tuple[Container, ...]:
        """Return the modules that the scheduler would place on such a base."""
        return self._baselines.of(base, query, self._base(base)).modules

    def _base(self, base: BaseId) -> Base | None:
        actor = self._actor(base)
        return actor.base if actor is not None else None

    # What is kept.

    def take(self, base: BaseId) -> Heard | None:
        """Return the last heartbeat of a base that is served from now on, and forget it."""
        return self._heard.pop(base, None)

    def take_given(self, base: BaseId) -> tuple[ModuleKey, ...]:
        """Return the baseline that a base was given lately, and forget it."""
        given = self._given.pop(base, None)
        return given.modules if given is not None else ()

    def unserved(self) -> Collection[BaseId]:
        """Return the bases that spoke lately and have no actor."""
        return self._heard.keys()

    def forget(self, base: BaseId) -> None:
        """Forget what a base said: it is another replica's."""
        self._heard.pop(base, None)

    def sweep(self) -> None:
        """Forget what is too old."""
        now = self._clock.monotonic()
        self._given = {base: given for base, given in self._given.items() if now - given.at < HEARD_FOR}
        self._heard = {base: heard for base, heard in self._heard.items() if now - heard.at < HEARD_FOR}

    def _known(self, base: BaseId) -> BaseActor | None:
        actor = self._actor(base)
        if actor is None:
            REFUSED_REPORTS.labels("unknown-base").inc()
        return actor
