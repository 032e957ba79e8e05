"""The whole model: replicas, gateways, bases, a cluster, people and faults; and what must hold meanwhile.

Checked at every step: I1 (nobody acts for a base beside another one, fences rise with the terms, nothing with an old
fence is carried out) and I2 (an order is carried out at most once and has one outcome, no module that is wanted is
uninstalled, nothing is deleted that should stay). Checked by ``settle``: once faults have stopped, every base has one
owner, loads are even, and bases have the modules that are wanted.
"""

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.app.fleet.router import ReportRouter
from controlplane.app.gateways import Link
from controlplane.app.ownership.assignment import Gift
from controlplane.cluster.api import LEASES, NODES, PODS, Json, Resource, WatchEvent
from controlplane.domain.contract import ANNOTATION_REPLICA_DRAINING
from controlplane.domain.facts import Fact, Order, OrderResult, Verb
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership import replicas as rules
from tests.unit.ownership.bases import SimBase
from tests.unit.ownership.gateway import HEARTBEAT_INTERVAL, Gateway, on_network
from tests.unit.ownership.replica import Replica, endpoint
from tests.unit.ownership.store import SimApi, Store
from tests.unit.ownership.tunnel import Network
from tests.unit.ownership.world import Violation, World

SEEN_BY_THEN = 30.0
"""Seconds after which a replica that reaches the API server knows of a Pod: watches lag less and are back by then."""
SETTLE_WITHIN = 120.0
SLOTS = ("biz1", "biz2")


@dataclass(frozen=True)
class Shape:
    """How large a run is, and which small faults happen all the time."""

    replicas: int = 3
    gateways: int = 2
    bases: int = 4
    pause: float = 0.0
    """How probable a pause is right before a write or a message leaves its process."""
    loss: float = 0.0
    """How probable it is that a request to the API server, or its answer, gets lost."""
    rate_error: float = 0.01


STANDARD = Shape()


@dataclass(frozen=True)
class _ObservedRouter:
    """A router that passes results to an observer before it takes them."""

    router: ReportRouter
    observe: Callable[[OrderResult], None]

    def report(self, link: Link, base: BaseId, fact: Fact | OrderResult) -> None:
        if isinstance(fact, OrderResult):
            self.observe(fact)
        self.router.report(link, base, fact)


class Model:
    """One run."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.seed, self.shape = seed, shape
        self.world = world = World(seed)
        self.store = Store(world)
        self.store.touched = self._touched
        self.network = Network(world)
        self.bases = {f"b{n}": SimBase(world, f"b{n}") for n in range(shape.bases)}
        self.names = [f"r{n}" for n in range(shape.replicas)]
        self.runs: list[Replica] = []
        self.gateways: dict[str, Gateway] = {}
        self.highest: Counter[str] = Counter()
        self.terms: Counter[str] = Counter()
        self.deleted: dict[str, float] = {}
        """When the last lease of a base was deleted."""
        self.wanted_since: dict[tuple[str, str], float] = {}
        self.outcomes: dict[str, Any] = {}
        self.issued: dict[str, tuple[Replica, Order]] = {}
        self.pods = 0
        SimApi.world_pause, SimApi.loss = shape.pause, shape.loss
        self.network.pause = shape.pause

    # Parts.

    def start(self) -> None:
        """Start everything that the shape names."""
        for name in self.names:
            self.start_replica(name)
        for number in range(self.shape.gateways):
            self.start_gateway(f"g{number}")
        for base in self.bases.values():
            self._heartbeat(base)
        self.world.run(1.0)

    def start_replica(self, name: str) -> Replica:
        error = self.shape.rate_error
        rate = 1.0 + self.world.random.uniform(-error, error)
        offset = self.world.random.uniform(0.0, 10_000.0)
        replica = Replica(self.world, self.store, self.network, name, offset=offset, rate=rate)
        self.world.note(f"{name} starts")
        self.runs.append(replica)
        replica.process.after_step = lambda: self._check_terms(replica)
        connected = replica.gateways.connected

        def observe(link: Link) -> None:
            send = link.order

            def note_and_send(order: Order) -> None:
                self._issued(replica, order)
                send(order)

            link.order = note_and_send  # type: ignore[method-assign]
            connected(link)

        replica.gateways.connected = observe  # type: ignore[method-assign]
        give_away = replica.fleet._give

        def check_and_give(gift: Gift, group: asyncio.TaskGroup) -> None:
            self.note_gift(replica, gift.base, gift.receiver, gift.why)
            give_away(gift, group)

        replica.fleet._give = check_and_give  # type: ignore[method-assign]
        replica.servicer._router = _ObservedRouter(replica.router, self._ended)  # type: ignore[assignment]
        return replica

    def note_gift(self, replica: Replica, base: BaseId, to: str, why: str) -> None:
        self.world.note(f"{replica.name} gives {base} to {to}: {why}")
        trouble = replica.cluster.trouble()
        self.check(trouble is None, f"{replica.name} gives {base} away on caches that may be out of date: {trouble}")

    def start_gateway(self, name: str) -> None:
        self.world.note(f"{name} starts")
        gateway = Gateway(self.world, name, tuple(endpoint(replica) for replica in self.names), self.bases)
        self.gateways[name] = gateway
        links, seen = gateway.links, Counter[str]()
        received, take = links.received, links._orders.take

        def notice(stream: Any, message: pb.ConnectResponse) -> None:
            for fenced in (message.watch, message.claim):
                seen[fenced.base_id] = max(seen[fenced.base_id], fenced.fence)
            received(stream, message)

        def carry_out(replica: str, order: pb.Order, execute: Any) -> None:
            self.check(
                order.fence >= seen[order.base_id],
                f"{name} carries out an order of {replica} for {order.base_id} with fence {order.fence}, "
                f"though it saw {seen[order.base_id]}",
            )
            take(replica, order, execute)

        links.received = notice  # type: ignore[method-assign]
        links._orders.take = carry_out  # type: ignore[method-assign]

    def stop_gateway(self, name: str) -> None:
        gateway = self.gateways.pop(name)
        gateway.process.kill()
        self.network.ended(gateway.process)

    def _heartbeat(self, base: SimBase) -> None:
        gateways = [gateway for gateway in self.gateways.values() if not gateway.process.paused]
        if gateways:
            self.world.random.choice(gateways).heartbeat(base)
        self.world.after(HEARTBEAT_INTERVAL * self.world.random.uniform(0.95, 1.05), lambda: self._heartbeat(base))

    # What people do.

    def want(self, base: str, module: str) -> None:
        """Bind a Pod for a module to a base, unless there is one."""
        if (base, module) in self.wanted_since:
            return
        self.pods += 1
        self.wanted_since[base, module] = self.world.now
        self.world.note(f"{module} is wanted on {base}")
        container = {
            "name": module,
            "image": f"https://repo.example/{module}-1.jar",
            "env": [{"name": "BIZ_VERSION", "value": "1"}],
        }
        metadata = {
            "namespace": "default",
            "name": f"p{self.pods}",
            "creationTimestamp": f"2026-01-01T00:{self.pods // 60:02d}:{self.pods % 60:02d}Z",
            "labels": {"virtual-kubelet.koupleless.io/component": "module"},
        }
        spec = {"nodeName": f"vnode.{base}.dev", "containers": [container]}
        self.store.put(PODS, {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})

    def unwant(self, base: str, module: str) -> None:
        """Delete the Pod of a module."""
        if self.wanted_since.pop((base, module), None) is None:
            return
        self.world.note(f"{module} is not wanted on {base} any more")
        for pod in self.pods_of(base, module):
            if "deletionTimestamp" not in pod["metadata"]:
                pod["metadata"] |= {"deletionTimestamp": "2026-01-01T01:00:00Z", "deletionGracePeriodSeconds": 30}
                self.store.put(PODS, pod)

    def pods_of(self, base: str, module: str) -> list[Json]:
        return [
            pod
            for pod in self.store.every(PODS)
            if pod["spec"]["nodeName"] == f"vnode.{base}.dev" and pod["spec"]["containers"][0]["name"] == module
        ]

    # What must hold at every step.

    def check(self, holds: bool, message: str) -> None:
        if not holds:
            self.world.note(f"VIOLATION: {message}")
            # Whatever the product makes of the exception, the run ends.
            self.world.violation = self.world.violation or message
            raise Violation(message)

    def _check_terms(self, replica: Replica) -> None:
        for base, term in tuple(replica.leases._terms.items()):
            fence = replica.fence(base)
            if fence is None:
                continue
            key = f"{base} {fence}"
            if self.terms[key] == 0:
                self.world.note(f"{replica.name} acts for {base}, fence {fence}")
                # A replica that started after a lease was deleted, and whose wall clock is behind, cannot know how high
                # it was: gateways refuse its orders and report that.
                unaware = replica.clock.ahead < 0 and replica.process.began > self.deleted.get(base, float("inf"))
                self.check(
                    fence > self.highest[base] or unaware,
                    f"{replica.name} begins a term over {base} with fence {fence} after {self.highest[base]}",
                )
                self.terms[key] = id(replica)
                self.highest[base] = max(fence, self.highest[base])
            self.check(self.terms[key] == id(replica), f"two terms over {base} have fence {term.fence}")
            for other in self.runs:
                beside = other.fence(base) if other is not replica else None
                self.check(
                    beside is None,
                    f"{replica.name} with fence {fence} and {other.name} with fence {beside} act for {base}",
                )

    def _issued(self, replica: Replica, order: Order) -> None:
        base = str(order.base)
        fence = replica.fence(base)
        self.check(fence == order.fence, f"{replica.name} orders for {base} with {order.fence}, its term is {fence}")
        self.check(order.order_id not in self.issued, f"order {order.order_id} is given twice")
        self.issued[order.order_id] = replica, order
        if order.verb is Verb.UNINSTALL:
            since = self.wanted_since.get((base, order.modules[0].key.name))
            self.check(
                since is None or max(since, replica.api.reached_at) > self.world.now - SEEN_BY_THEN,
                f"{replica.name} uninstalls {order.modules[0].key.name} from {base}, where it is wanted since {since}",
            )

    def _ended(self, result: OrderResult) -> None:
        known = self.outcomes.setdefault(result.order_id, result.outcome)
        self.check(known == result.outcome, f"order {result.order_id} has two outcomes: {known} and {result.outcome}")

    def _touched(self, resource: Resource, event: WatchEvent) -> None:
        meta = event.object["metadata"]
        if resource == NODES and event.type == "DELETED":
            self.check(False, f"Node {meta['name']} is deleted, though its base is alive")
        if resource == NODES and event.type == "MODIFIED":
            ready = {c["type"]: c["status"] for c in event.object["status"].get("conditions", [])}.get("Ready")
            self.check(ready != "False", f"Node {meta['name']} is not Ready, though its base is alive")
        if resource == PODS and event.type == "DELETED":
            self.check("deletionTimestamp" in meta, f"Pod {meta['name']} is removed, though nobody deleted it")
        if resource == LEASES:
            if event.type == "DELETED":
                self.deleted[meta["name"].removeprefix("vnode.").removesuffix(".dev")] = self.world.now
            holder = event.object["spec"].get("holderIdentity")
            before = self.__dict__.setdefault("_holders", {})
            if before.get(meta["name"]) != (holder, event.type):
                fence = event.object["spec"].get("leaseTransitions")
                self.world.note(f"lease {meta['name']} {event.type.lower()}: {holder}, {fence}")
            before[meta["name"]] = holder, event.type

    def check_orders(self) -> None:
        """I2 over the whole run."""
        for base in self.bases.values():
            twice = [order for order, times in Counter(base.begun).items() if times > 1]
            self.check(not twice, f"{base.name} was asked twice to carry out {twice}")
            for order_id in base.begun:
                replica, _ = self.issued[order_id]
                lost = not replica.process.alive or len(self.gateways) + len(self.names) < len(self.world.processes)
                self.check(order_id in self.outcomes or lost, f"no replica got the outcome of order {order_id}")

    # How it ends.

    def running_replicas(self) -> list[Replica]:
        return [run for run in self.runs if run.process.alive]

    def replica(self, name: str) -> Replica:
        """Return the running process of a name, or else the last one."""
        runs = [run for run in self.runs if run.name == name]
        return next((run for run in runs if run.process.alive), runs[-1])

    def owners(self, base: str) -> list[str]:
        return [replica.name for replica in self.running_replicas() if replica.fence(base) is not None]

    def loads(self) -> dict[str, int]:
        owned = Counter(owner for base in self.bases for owner in self.owners(base))
        return {replica.name: owned[replica.name] for replica in self.running_replicas()}

    def unsettled(self) -> str:
        """Return what is not yet as it should be, or an empty text."""
        for base in self.bases.values():
            owners = self.owners(base.name)
            if len(owners) != 1:
                return f"{base.name} has the owners {owners}"
            wanted = {(module, "1") for of, module in self.wanted_since if of == base.name}
            if base.modules != wanted:
                return f"{base.name} has {sorted(base.modules)} and should have {sorted(wanted)}"
        for replica in self.running_replicas():
            busy = [base.id for base in replica.roster.bases() if base.modules.in_flight]
            if busy:
                return f"{replica.name} has orders under way for {busy}"
        for pod in self.store.every(PODS):
            ready = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}.get("Ready")
            if ready != "True" or "deletionTimestamp" in pod["metadata"]:
                return f"Pod {pod['metadata']['name']} is not Ready, or not gone"
        loads = self.loads()
        for name in loads:
            gifts = rules.gifts(name, loads, loads.keys())
            if gifts:
                return f"loads are uneven: {loads}"
        return ""

    def end_faults(self) -> None:
        """Let whatever is away come back: nothing is paused, cut off, late or dead any more."""
        SimApi.world_pause = SimApi.loss = self.network.pause = 0.0
        self.world.note("faults stop")
        for lease in self.store.every(LEASES):
            if lease["metadata"].get("annotations", {}).get(ANNOTATION_REPLICA_DRAINING) == "true":
                lease["metadata"]["annotations"][ANNOTATION_REPLICA_DRAINING] = "false"
                self.store.put(LEASES, lease)
        longest = max(
            [
                0.0,
                *(run.process.paused_until for run in self.runs),
                *(r.api.reached_at for r in self.running_replicas()),
            ]
        )
        longest = max([longest, *self.network.cut.values(), *(g.process.paused_until for g in self.gateways.values())])
        self.world.run(max(longest - self.world.now, 0.0) + 15.0)
        for name in self.names:
            if not self.replica(name).process.alive:
                self.start_replica(name)

    def settle(self, within: float = SETTLE_WITHIN) -> float:
        """Run without faults until everything is settled; return how many seconds that took."""
        began = self.world.now
        while self.world.now - began < within:
            self.world.run(1.0)
            if not self.unsettled():
                took = self.world.now - began
                self.world.run(3.0)
                self.check(not self.unsettled(), f"it did not stay settled: {self.unsettled()}")
                self.check_orders()
                return took
        self.check(False, f"{within:.0f} s after the last fault: {self.unsettled()}")
        raise AssertionError


@contextmanager
def running(seed: int, shape: Shape = STANDARD, faults: Sequence[tuple[object, ...]] = ()) -> Iterator[Model]:
    """Run a model; a violation comes with its trace and the command that runs it again."""
    model = Model(seed, shape)

    def defect(_logger: object, _level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        model.world.defects.append({**event, "exc_info": traceback.format_exc()})
        raise structlog.DropEvent

    structlog.configure(
        processors=[defect],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        with on_network(model.network):
            model.start()
            yield model
    except Exception as violation:
        trace = "\n".join(model.world.trace[-60:])
        again = f"--seed {seed} --shape '{astuple(shape)}' --faults '{[tuple(fault) for fault in faults]}'"
        violation.add_note(f"{trace}\nrun it again: python -m tests.unit.ownership.explore {again}")
        raise
    finally:
        model.world.close()
        structlog.reset_defaults()
