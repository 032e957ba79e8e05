"""Modules and Pods of one base: give orders, take results, write Pod statuses, let go of deleted Pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar
from uuid import uuid4

import structlog

from controlplane.app.base.orderreports import Endings
from controlplane.app.base.prober import Prober
from controlplane.app.base.readiness import Readiness
from controlplane.app.base.state import Base
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory, Link
from controlplane.app.metrics import BOUND_TO_ORDER, ORDERS_IN_FLIGHT, UNINSTALL_TIMEOUTS, WRITES
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster, NotFound, Rejected
from controlplane.domain.backoff import QUICK
from controlplane.domain.base import deadline, doubts, outcomes, planner, vnode, vpod
from controlplane.domain.base import modules as book
from controlplane.domain.base.remarks import remarks
from controlplane.domain.facts import BatchInstalled, ModuleList, Order, OrderResult, Reply, TunnelKind, Verb
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.domain.objects import Container, Pod, PodStatus

log = structlog.get_logger(__name__)

T = TypeVar("T")

REFUSED_AGAIN = 30.0
"""Seconds until a write that the cluster refused is tried again without news."""

REMOVED_AGAIN = 30.0
"""Seconds until a removed Pod that is still seen (a finalizer, a watch that lags) is removed again, at least."""


@dataclass(slots=True)
class _Seen:
    """When a Pod was first seen bound, changed and first seen leaving, and whether we removed it; monotonic times."""

    bound: float
    containers: tuple[Container, ...]
    changed: float | None = None
    ordered: bool = False
    leaving: float | None = None
    removed: bool = False
    remove_again: float = 0.0
    written: PodStatus | None = None
    repeats: int = 0
    not_before: float = 0.0


class PodReconciler:
    """Works on the modules of one base; what it holds is lost with it at no harm; all else is in Base."""

    def __init__(
        self,
        base: Base,
        *,
        cluster: Cluster,
        clock: Clock,
        gateways: GatewayDirectory,
        recorder: Recorder,
        policy: Policy,
        random: Random,
        prober: Prober,
        changed: Callable[[], None],
    ) -> None:
        self._base = base
        self._cluster = cluster
        self._clock = clock
        self._gateways = gateways
        self._recorder = recorder
        self._policy = policy
        self._random = random
        self._readiness = Readiness(
            base, cluster=cluster, clock=clock, prober=prober, recorder=recorder, changed=changed
        )
        self._endings = Endings(base, recorder, clock, policy.timing)
        self._seen: dict[str, _Seen] = {}
        self._sent: dict[OrderId, Link] = {}
        """Over which stream orders under way were sent."""

    def pods(self) -> tuple[Pod, ...]:
        """Return the Pods bound to the base, oldest first."""
        return self._cluster.pods.on_node(self._base.vnode)

    def note(self, now: float) -> None:
        """Note Pods that are new, while the actor may still be at work on earlier news."""
        for pod in self.pods():
            self._seen.setdefault(pod.uid, _Seen(bound=now, containers=pod.containers))

    def look(self, pods: Sequence[Pod], now: float) -> None:
        """Note when Pods came and when they began to leave."""
        seen = self._seen
        for uid in seen.keys() - {pod.uid for pod in pods}:
            del seen[uid]
        for pod in pods:
            entry = seen.setdefault(pod.uid, _Seen(bound=now, containers=pod.containers))
            if entry.containers != pod.containers:
                entry.containers, entry.changed = pod.containers, now
            if pod.deleting and entry.leaving is None:
                entry.leaving = now

    def take_results(self, results: Sequence[tuple[OrderResult, float]], pods: Sequence[Pod]) -> bool:
        """Take outcomes of orders; return whether the base answered one of ours."""
        heard = False
        for result, at in results:
            if result.order_id in self._base.modules.orders():
                heard |= isinstance(result.outcome, Reply | BatchInstalled)
                self._take(result, pods, at)
            else:
                # An order of an earlier term, a baseline that it gave, or an order that was given up.
                installed = outcomes.installed(result.outcome)
                self._base.modules = book.installed_before(self._base.modules, installed, at)
                self._base.modules = book.ask_again(self._base.modules)
        return heard

    def give_up(self, pods: Sequence[Pod], now: float) -> float | None:
        """Count orders whose answer will not come as unknown; return when to look again."""
        modules = self._base.modules
        for order_id in doubts.overdue(modules, now):
            self._take(outcomes.lost(order_id, "no answer in time"), pods, now)
        times = []
        for flight in tuple(self._base.modules.in_flight.values()):
            given_up_at = self._gateways.given_up_at(flight.gateway)
            if given_up_at is not None and given_up_at <= now:
                self._take(outcomes.lost(flight.order_id, "the gateway was lost"), pods, now)
            else:
                times.append(min(flight.deadline, given_up_at or flight.deadline))
                if given_up_at is None and not self._over_the_same_stream(flight):
                    self._base.modules = doubts.doubt_by(
                        self._base.modules, flight.order_id, now + doubts.OVER_NEW_STREAM
                    )
        self._base.modules = doubts.doubt(self._hurry(pods, now), now)
        times += [
            flight.doubt_at
            for flight in self._base.modules.in_flight.values()
            if flight.doubt_at is not None and flight.asked is None
        ]
        return min(times, default=None)

    def _over_the_same_stream(self, flight: book.InFlight) -> bool:
        gateway = self._gateways.get(flight.gateway.rpartition("/")[0])
        return gateway is not None and self._sent.get(flight.order_id) is gateway.link

    def _hurry(self, pods: Sequence[Pod], now: float) -> book.Modules:
        """An install that no Pod wants any more is not awaited for long: it holds up what is wanted now."""
        if not self._base.modules.in_flight:
            return self._base.modules
        wanted = {(wish.spec, wish.release) for wish in self._wishes(pods) if not wish.leaving}
        return doubts.unwanted(self._base.modules, wanted, now)

    def _wishes(self, pods: Sequence[Pod]) -> tuple[planner.Wish, ...]:
        return planner.wishes(pods, vnode.place(self._base.profile))

    def hear(self, heard: ModuleList, pods: Sequence[Pod], now: float) -> None:
        """Take a module list."""
        base = self._base
        again_at = now + doubts.AGAIN
        base.modules, lost = doubts.undelivered(base.modules, heard, again_at=again_at)
        for order_id in lost:
            self._take(outcomes.lost(order_id, "the base does not seem to work on it"), pods, now)
        base.modules = book.hear(base.modules, heard, now)

    def give_orders(self, pods: Sequence[Pod], now: float) -> float | None:
        """Send the orders that are due; return when to plan again."""
        base = self._base
        wishes = self._wishes(pods)
        base.modules = book.forget(base.modules, {wish.spec.key for wish in wishes}, now)
        base.modules = book.adopt(base.modules, {wish.spec.key: wish.release for wish in wishes})
        over_http = base.profile.tunnel is TunnelKind.HTTP
        abilities = planner.Abilities(batch=over_http, switch=over_http)
        plan = planner.plan(base.modules, wishes, now=now, policy=self._policy.modules, abilities=abilities)
        base.modules = replace(base.modules, orphan_since=plan.orphan_since, alone=plan.alone)
        gateway = self._gateways.get(base.gateway)
        if gateway is None or not gateway.tunnel_up:
            return plan.wake_at
        for intents in plan.orders:
            self._order(intents, gateway.link, pods, now)
        return plan.wake_at

    def _order(self, intents: Sequence[planner.Intent], link: Link, pods: Sequence[Pod], now: float) -> None:
        base, verb = self._base, intents[0].verb
        timeout = self._policy.timing.timeout(verb)
        order = Order(
            order_id=OrderId(uuid4().hex),
            fence=base.fence,
            base=base.id,
            address=base.profile.address,
            verb=verb,
            modules=tuple(intent.spec for intent in intents),
            timeout=timeout,
        )
        base.modules = book.begin(
            base.modules,
            order,
            {intent.spec.key: intent.release for intent in intents},
            now=now,
            deadline=now + timeout + self._policy.timing.answer_margin,
            gateway=link.info.key,
            # What a base lost with its connection to the broker has no answer.
            doubt_at=now + doubts.OVER_MQTT if base.profile.tunnel is TunnelKind.MQTT else None,
        )
        ORDERS_IN_FLIGHT.inc()
        under_way = base.modules.orders()
        self._sent = {sent: over for sent, over in self._sent.items() if sent in under_way} | {order.order_id: link}
        link.order(order)
        for intent in intents:
            self._measure_order(verb, intent.spec.key, pods, now)
        modules = ", ".join(str(spec.key) for spec in order.modules)
        log.info("order sent", base=base.id, modules=modules, verb=verb.value, order=order.order_id)

    async def write_statuses(self, pods: Sequence[Pod], *, unreachable: str) -> float | None:
        """Write the status of each Pod that has another one; superseded Pods first. Raises ClusterError."""
        base, now, wall = self._base, self._clock.monotonic(), self._clock.wall()
        host = vpod.Host(base.profile.address.ip, unreachable)
        wishes = self._wishes(pods)
        readings, live = self._readiness.readings(pods), _live(wishes)
        superseded = vpod.superseded(wishes, base.modules, vpod.unready(pods, readings))
        shown = []
        times: list[float] = []
        due = []
        for pod in pods:
            if pod.deleting and not self._seen[pod.uid].removed and not self._staying(pod, live):
                continue  # It is removed at once: nobody needs its last status.
            status = vpod.pod_status(
                pod, base.modules, host, superseded=superseded, now=now, wall=wall, readings=readings
            )
            shown.append((pod, status or pod.status))
            if status is None:
                continue
            held_until = self._held_until(pod, status, now)
            if held_until > now:
                times.append(held_until)
            else:
                due.append((pod, status))
        self._readiness.attend(shown)
        # Pods that turn not Ready go first: a Deployment then removes the right ones.
        for ready in (False, True):
            turn = [item for item in due if any(c.ready for c in item[1].containers) is ready]
            again = await self._all(self._write_status(*item, now) for item in turn)
            times += [at for at in again if at is not None]
        self._endings.all_shown()
        times += [at for at in (vpod.next_progress(pods, base.modules, now), deadline.next_at(pods, now, wall)) if at]
        return min(times, default=None)

    async def _write_status(self, pod: Pod, status: PodStatus, now: float) -> float | None:
        """Write one status; return when to try again if the cluster refuses it. Raises ClusterError."""
        WRITES.labels("pod-status").inc()
        try:
            await self._cluster.patch_pod_status(pod, status)
        except NotFound:
            return None
        except Rejected as error:
            # One Pod that the cluster refuses must not hold up the others.
            log.warning("Pod status refused", base=self._base.id, pod=pod.key, cause=str(error))
            return now + REFUSED_AGAIN
        self._note_written(pod, status, now)
        for remark in remarks(pod, status):
            self._recorder.pod(pod, "", warning=remark.warning, reason=remark.reason, message=remark.message)
        self._endings.shown(pod)
        return None

    def _held_until(self, pod: Pod, status: PodStatus, now: float) -> float:
        """Return until when a write is held.

        Most installs are too quick to be worth a status of their own, and a status
        that somebody else keeps changing is put right less and less often.
        """
        seen = self._seen[pod.uid]
        if not pod.status.containers and all(c.reason in ("Pending", "Installing") for c in status.containers):
            return seen.bound + vpod.SHOW_PROGRESS_AFTER
        return seen.not_before if status == seen.written else 0.0

    def _note_written(self, pod: Pod, status: PodStatus, now: float) -> None:
        seen = self._seen[pod.uid]
        if seen.changed is not None and all(c.ready for c in status.containers):
            message, seconds = "the Pod was changed, and its modules are ready", now - seen.changed
            self._recorder.pod(
                pod, "", warning=False, reason="PodUpdated", message=message, seconds=seconds, written=False
            )
            seen.changed = None
        seen.repeats = seen.repeats + 1 if status == seen.written else 0
        seen.written = status
        seen.not_before = now + QUICK.delay(seen.repeats, self._random.random()) if seen.repeats else 0.0

    async def let_go(self, pods: Sequence[Pod], now: float) -> float | None:
        """Remove Pods whose deletion was asked for and whose modules are gone. Raises ClusterError."""
        patience = self._policy.timing.module_uninstall_timeout
        live = _live(self._wishes(pods))
        times, due = [], []
        for pod in pods:
            if not pod.deleting:
                continue
            seen = self._seen.setdefault(pod.uid, _Seen(bound=now, containers=pod.containers, leaving=now))
            if now < seen.remove_again:
                times.append(seen.remove_again)
                continue
            staying = self._staying(pod, live)
            since = seen.leaving if seen.leaving is not None else now
            if staying and now < since + patience:
                times.append(since + patience)
            else:
                due.append((pod, seen, staying, now - since))
        await self._all(self._let_one_go(*item, now=now) for item in due)
        return min(times, default=None)

    async def _let_one_go(
        self, pod: Pod, seen: _Seen, staying: Sequence[ModuleKey], seconds: float, *, now: float
    ) -> None:
        if staying and not seen.removed:
            UNINSTALL_TIMEOUTS.inc()
            names = ", ".join(str(key) for key in staying)
            patience = self._policy.timing.module_uninstall_timeout
            message = f"the Pod is removed although {names} did not leave the base within {patience:g} s"
            reason = "ModuleUninstallTimeout"
            self._recorder.pod(pod, names, warning=True, reason=reason, message=message, seconds=seconds)
        if await self._remove(pod) and not staying and not seen.removed:
            message = "its modules left the base, and the Pod was removed"
            self._recorder.pod(
                pod, "", warning=False, reason="PodRemoved", message=message, seconds=seconds, written=False
            )
        seen.removed = True
        seen.remove_again = now + REMOVED_AGAIN * (1 + self._random.random() / 2)

    async def _all(self, works: Iterable[Coroutine[None, None, T]]) -> list[T]:
        """Do things side by side, all of them; then raise the first failure."""
        ends = await asyncio.gather(*works, return_exceptions=True)
        failures = [end for end in ends if isinstance(end, BaseException)]
        if failures:
            raise failures[0]
        return [end for end in ends if not isinstance(end, BaseException)]

    def _staying(self, pod: Pod, live: AbstractSet[ModuleKey]) -> list[ModuleKey]:
        """Return the modules for which a Pod's deletion is held: they are, or may be, still on the base."""
        keys = {ModuleKey(c.name, c.version) for c in pod.containers if not planner.unusable(pod, c)}
        return [key for key in keys if key not in live and not self._base.modules.gone(key)]

    async def let_all_go(self, pods: Sequence[Pod]) -> None:
        """The base is gone, and its modules with it: remove Pods whose deletion was asked for. Raises ClusterError."""
        await self._all(self._let_go_with_base(pod) for pod in pods if pod.deleting)

    async def _let_go_with_base(self, pod: Pod) -> None:
        if await self._remove(pod):
            message = "its base is gone, and the Pod was removed"
            self._recorder.pod(pod, "", warning=False, reason="PodRemoved", message=message, written=False)

    def drop(self) -> None:
        """The base is given up: orders under way are not awaited any more."""
        ORDERS_IN_FLIGHT.dec(len(self._base.modules.orders()))
        self._base.modules = replace(self._base.modules, in_flight={})
        self._readiness.end()

    async def _remove(self, pod: Pod) -> bool:
        WRITES.labels("pod-delete").inc()
        try:
            await self._cluster.delete_pod(pod, grace_seconds=0)
        except NotFound:
            return True
        except Rejected as error:
            log.warning("Pod not removed", base=self._base.id, pod=pod.key, cause=str(error))
            return False
        return True

    def _take(self, result: OrderResult, pods: Sequence[Pod], at: float) -> None:
        base = self._base
        restarts = {
            ModuleKey(container.name, container.version): status.restart_count
            for pod in pods
            for container in pod.containers
            for status in pod.status.containers
            if status.name == container.name
        }
        chance = self._random.random()
        if result.order_id in base.modules.orders():
            ORDERS_IN_FLIGHT.dec()
        base.modules, ends = outcomes.end(base.modules, result, now=at, chance=chance, restarts=restarts)
        for ended in ends:
            self._endings.ended(ended, pods, at)

    def _measure_order(self, verb: Verb, key: ModuleKey, pods: Sequence[Pod], now: float) -> None:
        if verb is not Verb.INSTALL:
            return
        for pod in pods:
            seen = self._seen.get(pod.uid)
            if seen is not None and not seen.ordered and any(c.name == key.name for c in pod.containers):
                seen.ordered = True
                BOUND_TO_ORDER.observe(max(now - seen.bound, 0.0))


def _live(wishes: Sequence[planner.Wish]) -> frozenset[ModuleKey]:
    return frozenset(wish.spec.key for wish in wishes if not wish.leaving)
