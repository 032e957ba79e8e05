"""Orders for one base: which are due, how they end, and what its lists say of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

import structlog

from controlplane.app.base.orderreports import OrderReports
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.gateways import Link
from controlplane.app.metrics import ORDERS_IN_FLIGHT
from controlplane.domain.base import modules, outcomes, planner, unconfirmed
from controlplane.domain.base.releases import UNKNOWN
from controlplane.domain.base.state import Base
from controlplane.domain.base.wishes import Wish
from controlplane.domain.facts import TIMEOUTS, BatchInstalled, ModuleList, Order, OrderResult, Reply, TunnelKind
from controlplane.domain.identity import OrderId
from controlplane.domain.objects import Pod

log = structlog.get_logger(__name__)

ANSWER_MARGIN = 15.0
"""Seconds by which an order's result may arrive later than its own deadline."""


@dataclass(slots=True)
class Orders:
    """Sends the orders of one base and takes what becomes of them; each step returns the base's next state."""

    around: Surroundings
    reports: OrderReports
    _sent: dict[OrderId, Link] = field(default_factory=dict)
    """Over which stream orders under way were sent."""

    def take_results(
        self, base: Base, results: Iterable[tuple[OrderResult, float]], pods: Sequence[Pod]
    ) -> tuple[Base, bool]:
        """Take outcomes of orders; return whether the base answered one of ours, too."""
        answered = False
        for result, at in results:
            if result.order_id in base.modules.orders():
                answered |= isinstance(result.outcome, Reply | BatchInstalled)
                base = self._end(base, result, pods, at)
            else:
                # An order or baseline of an earlier term, which may not have recorded it, or one that was given up.
                installed = dict.fromkeys(outcomes.installed(result.outcome), UNKNOWN)
                known = modules.remember(base.modules, installed, at)
                base = replace(base, modules=modules.ask_again(known))
        return base, answered

    def take_baseline(self, base: Base, batch: BatchInstalled, now: float) -> Base:
        """Take how it went with what a starting base was given."""
        self.reports.baseline(base, batch)
        return replace(base, modules=unconfirmed.started(modules.started(base.modules), now))

    def take_list(self, base: Base, listed: ModuleList, pods: Sequence[Pod], now: float) -> Base:
        """Take a module list."""
        known, lost = unconfirmed.undelivered(base.modules, listed, again_at=now + unconfirmed.AGAIN)
        base = replace(base, modules=known)
        for order_id in lost:
            base = self._end(base, outcomes.lost(order_id, "the base does not seem to work on it"), pods, now)
        return replace(base, modules=modules.take_list(base.modules, listed))

    def give_up(self, base: Base, wishes: Sequence[Wish], pods: Sequence[Pod], now: float) -> tuple[Base, float | None]:
        """Count orders whose answer will not come as unknown; return when to look again, too."""
        times = []
        for flight in tuple(base.modules.in_flight.values()):
            given_up_at = self.around.gateways.given_up_at(flight.gateway)
            if flight.deadline <= now or (given_up_at is not None and given_up_at <= now):
                why = "no answer in time" if flight.deadline <= now else "the gateway was lost"
                base = self._end(base, outcomes.lost(flight.order_id, why), pods, now)
                continue
            times.append(min(flight.deadline, given_up_at or flight.deadline))
            if given_up_at is None and not self._over_the_same_stream(flight):
                by = now + unconfirmed.OVER_NEW_STREAM
                base = replace(base, modules=unconfirmed.ask_by(base.modules, flight.order_id, by))
        if under_way := base.modules.in_flight:
            # An install that no Pod wants any more is not awaited for long: it holds up what is wanted now.
            live = (wish for wish in wishes if wish.spec.key.name in under_way and not wish.leaving)
            wanted = {(wish.spec, wish.release) for wish in live}
            known = unconfirmed.ask(unconfirmed.unwanted(base.modules, wanted, now), now)
            base = base if known is base.modules else replace(base, modules=known)
        flights = base.modules.in_flight.values()
        times += [f.ask_at for f in flights if f.ask_at is not None and f.asked is None]
        return base, min(times, default=None)

    def send(self, base: Base, wishes: Sequence[Wish], now: float) -> tuple[Base, planner.Plan]:
        """Send the orders that are due; return by which plan, too."""
        known = modules.forget(base.modules, {wish.spec.key for wish in wishes}, now)
        known = modules.adopt(known, {wish.spec.key: wish.release for wish in wishes})
        over_http = base.profile.tunnel is TunnelKind.HTTP
        plan = planner.plan(
            known, wishes, now=now, policy=self.around.policy.modules, batches=over_http, switches=over_http
        )
        if plan.state is not base.modules:
            base = replace(base, modules=plan.state)
        gateway = self.around.gateways.get(base.gateway)
        if gateway is not None and gateway.tunnel_up:
            for intents in plan.orders:
                base = self._send(base, intents, gateway.link, now)
        return base, plan

    def drop(self, base: Base) -> Base:
        """Give up the base: orders under way are not awaited any more."""
        ORDERS_IN_FLIGHT.dec(len(base.modules.orders()))
        return replace(base, modules=replace(base.modules, in_flight={}))

    def _send(self, base: Base, intents: Sequence[planner.Intent], link: Link, now: float) -> Base:
        verb, specs = intents[0].verb, tuple(intent.spec for intent in intents)
        order = Order(OrderId(uuid4().hex), base.fence, base.id, base.profile.address, verb, specs)
        flights = (
            modules.InFlight(
                order.order_id,
                verb,
                intent.spec,
                intent.release,
                deadline=now + TIMEOUTS[verb] + ANSWER_MARGIN,
                sent_at=now,
                gateway=link.info.key,
                # What a base lost with its connection to the broker has no answer.
                ask_at=now + unconfirmed.OVER_MQTT if base.profile.tunnel is TunnelKind.MQTT else None,
            )
            for intent in intents
        )
        known = modules.begin(base.modules, flights)
        ORDERS_IN_FLIGHT.inc()
        under_way = known.orders()
        self._sent = {sent: over for sent, over in self._sent.items() if sent in under_way} | {order.order_id: link}
        link.order(order)
        names = ", ".join(str(spec.key) for spec in order.modules)
        log.info("order sent", base=base.id, modules=names, verb=verb.value, order=order.order_id)
        return replace(base, modules=known)

    def _over_the_same_stream(self, flight: modules.InFlight) -> bool:
        gateway = self.around.gateways.get(flight.gateway.rpartition("/")[0])
        return gateway is not None and self._sent.get(flight.order_id) is gateway.link

    def _end(self, base: Base, result: OrderResult, pods: Sequence[Pod], at: float) -> Base:
        known = base.modules
        flights = (*known.in_flight.values(), *known.given_up)
        names = {flight.spec.key.name for flight in flights if flight.order_id == result.order_id}
        restarts = {c.key: pod.status.of(c).restart_count for pod in pods for c in pod.containers if c.name in names}
        if result.order_id in base.modules.orders():
            ORDERS_IN_FLIGHT.dec()
        chance, troubles = self.around.random.random(), base.modules.troubles
        known, ends = outcomes.end(base.modules, result, now=at, chance=chance, restarts=restarts)
        base = replace(base, modules=known)
        for ended in ends:
            base = self.reports.ended(base, ended, pods, at, troubled=ended.spec.key in troubles)
        return base
