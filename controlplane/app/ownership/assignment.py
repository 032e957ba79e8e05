"""Which bases this replica takes, and which it gives away.

Looks at the leases of all bases, at who lives, and at the roster; the fleet then begins or ends terms. A base is
another replica's as long as that one lives: nothing is held here for it but what the informers have.

A base is taken
- at once, if its lease is ours or was given to us;
- when its holder is gone, shared out so that loads come out even;
- when its lease ran out, whatever its holder is (an original, for example);
- when it has no lease and sent a heartbeat, or has a Node: by the first in the order that its name gives the replicas,
  of those with the fewest bases (IS_CLUSTER); with a Node it had a lease, whose last holder goes first.

Where that replica takes none, the next one does after a while.

Bases are given away while loads are uneven, or when this replica drains, or cannot reach a tunnel that another one
reaches.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import structlog

from controlplane.app.gateways import GatewayDirectory
from controlplane.app.ownership.admission import Admission
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster
from controlplane.app.roster import Roster
from controlplane.domain import contract
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId, base_of_node, node_name
from controlplane.domain.ownership import replicas
from controlplane.domain.ownership.attempts import Attempt, Attempts

log = structlog.get_logger(__name__)

GATHER = 0.05
"""Seconds in which changes gather before they are looked at."""
LOOK_AT_ALL = 5.0
"""Seconds between looks at all bases: leases run out without a word."""
NO_GATEWAY = 10.0
"""Seconds without a gateway after which a replica says that it does not reach a tunnel."""
BALANCE = 1.0
"""Seconds between two rounds of giving bases away."""
BALANCED_LOOK = 5.0
"""Seconds between two looks at whether loads are even, while they are."""
CALM = 5.0
"""Seconds without a change among the replicas, and without an outage, after which loads are evened out."""
NEW_STEP = 0.5
"""Seconds between the tries of replicas to take a base that has no owner yet, in their order: more than a try takes."""
ROUNDS = 20
"""A surplus is given away in about so many rounds."""
GIVE_AT_LEAST = 5
"""Bases that a round gives away at least."""


@dataclass(frozen=True, slots=True)
class Gift:
    """End a term over a base in favour of another replica."""

    base: BaseId
    receiver: str
    why: str


@dataclass(kw_only=True)
class Assignment:
    """Decides for the fleet."""

    cluster: Cluster
    clock: Clock
    roster: Roster
    leases: LeaseKeeper
    members: Membership
    gateways: GatewayDirectory
    policy: Policy
    admission: Admission
    _holders: dict[str, str] = field(default_factory=dict)
    _loads: Counter[str] = field(default_factory=Counter)
    """How many leases each holder has."""
    _all_dirty: bool = True
    _tunnels: dict[TunnelKind, float] = field(default_factory=dict)
    _balance_at: float = float("-inf")
    _looked_at: float = float("-inf")

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.members.me)
        self.cluster.leases.subscribe(self._lease_changed)
        self.cluster.nodes.subscribe(self._node_changed)
        self.members.subscribe(self._members_changed)

    def decide(self) -> tuple[dict[BaseId, str], list[Gift]]:
        """Return which bases are to be taken now, and why, and which are to be given."""
        now = self.clock.monotonic()
        self._report_tunnels(now)
        # On what is out of date bases would be moved that need not be, and modules installed whose Pods are gone.
        if not self.members.may_act() or self.cluster.trouble() is not None:
            return {}, []
        self._look(now)
        return self._due(now), self._gifts(now)

    async def changed(self) -> None:
        """Return when it is worth deciding again."""
        now = self.clock.monotonic()
        next_attempt = self._attempts.next_at(now + BALANCE)
        await self.roster.untaken.wait(max(min(next_attempt - now, BALANCE), 0.0))
        await asyncio.sleep(GATHER)

    # Taking.

    def _look(self, now: float) -> None:
        dirty = self.roster.untaken.take()
        if self._all_dirty or now - self._looked_at >= LOOK_AT_ALL:
            self._all_dirty, self._looked_at = False, now
            self._look_at_all(now)
            self.admission.forget()
            return
        for base in sorted(dirty):
            self._look_at(base, now)

    def _look_at_all(self, now: float) -> None:
        loads = self._loads.copy()
        orphans: dict[str, list[BaseId]] = defaultdict(list)
        bases: set[BaseId] = set(self.roster.unserved())
        bases |= {base for node in self.cluster.nodes.all() if (base := self._base(node.name)) is not None}
        me = self.members.me
        for lease in self.cluster.leases.all():
            if lease.holder != me and self.leases.orphaned(lease) and (base := self._base(lease.name)) is not None:
                if taker := me if self.roster.serving(base) else self._attempts.left_to(base):
                    loads[taker] += 1
                else:
                    orphans[self._tunnel(lease.name)].append(base)
        assigned: dict[str, str] = {}
        for tunnel, lost in orphans.items():
            assigned |= replicas.assigned(lost, loads, self.members.takers(tunnel))
        for base in sorted(bases.union(self._attempts.bases)):
            self._look_at(base, now, assigned.get(base, ""))

    def _look_at(self, base: BaseId, now: float, assigned_to: str = "") -> None:
        self._attempts.put(base, None if self.roster.serving(base) else self._attempt(base, now, assigned_to))

    def _attempt(self, base: BaseId, now: float, assigned_to: str) -> Attempt | None:
        """Return when this replica tries to take a base without an actor here, and why; None: not at all."""
        lease, wait = self.leases.get(base), self.leases.wait(base)
        if lease is not None and wait > 0:
            # Its heartbeats from before it had an owner must not bring it back when that one removes it.
            self.roster.forget(base)
            return None
        me = self.members.me
        if lease is not None and lease.holder == me:
            return Attempt(now, "given")
        takers = self.members.takers(self._tunnel(node_name(base, self.policy.env)))
        if me not in takers:
            return None
        if lease is not None and lease.holder:
            orphaned = self.leases.orphaned(lease)
            order = replicas.order(base, takers)
            first = (assigned_to or self._attempts.left_to(base) or order[0]) if orphaned else order[0]
            place = 0 if first == me else replicas.rank(me, base, [each for each in takers if each != first])
            return Attempt(now, "holder-gone" if orphaned else "expired", first, place)
        has_node = self.cluster.nodes.get(node_name(base, self.policy.env)) is not None
        order = replicas.order(base, takers, self._levels(takers) if self.policy.clustered else None)
        at = now + wait + NEW_STEP * order.index(me)
        if base in self.roster.unserved():
            return Attempt(at, "new")
        return Attempt(at, "node-without-lease") if has_node else None

    def _levels(self, takers: Collection[str]) -> dict[str, int]:
        total, highest = self._loads.total(), self.policy.most_level
        return {taker: replicas.level(self._loads[taker], total, highest) for taker in takers}

    def _due(self, now: float) -> dict[BaseId, str]:
        due = self._attempts.due(now)
        for base, why in tuple(due.items()):
            if why == "new":
                del due[base]
                self.admission.offer(base, now)
        due |= dict.fromkeys(self.admission.due(now), "new")
        return {b: why for b, why in due.items() if not self.roster.serving(b) and not self.leases.wait(b)}

    # Giving.

    def _gifts(self, now: float) -> list[Gift]:
        """Even out the loads of the replicas, a part at a time."""
        live = self.members.replicas()
        draining = any(replica.draining and replica.id == self.members.me for replica in live)
        calm = draining or self.members.unchanged_for() >= CALM
        if len(live) < 2 or not calm or now < self._balance_at:
            return []
        loads: dict[str, Counter[str]] = defaultdict(Counter)
        names = {replica.id for replica in live}
        for lease in self.cluster.leases.all():
            if lease.holder in names:
                loads[self._tunnel(lease.name)][lease.holder] += 1
        even, chosen = True, list[Gift]()
        for tunnel, load in loads.items():
            among = self.members.takers(tunnel)
            why = "balance" if self.members.me in among else "drain" if draining else "no-gateway"
            for receiver, surplus in replicas.gifts(self.members.me, load, among).items():
                even = False
                most = min(max(GIVE_AT_LEAST, surplus // ROUNDS), surplus)
                given = self._spare(tunnel, busy=why != "balance", but=chosen)[:most]
                chosen += [Gift(base, receiver, why) for base in given]
                if given:
                    left = surplus - len(given)
                    log.info("bases given to another replica", replica=receiver, bases=len(given), left=left, why=why)
        self._balance_at = now + (BALANCED_LOOK if even else BALANCE)
        return chosen

    def _spare(self, tunnel: str, *, busy: bool, but: Sequence[Gift]) -> list[BaseId]:
        """Return the bases of a tunnel that can be given away, idle ones first; busy: also those with orders."""
        taken = {gift.base for gift in but} | self.roster.leaving
        ours = [
            base
            for base in self.roster.bases()
            if base.profile.tunnel.value == tunnel and base.id not in taken and self.leases.fence(base.id) is not None
        ]
        ours.sort(key=lambda base: bool(base.modules.in_flight))
        return [base.id for base in ours if busy or not base.modules.in_flight]

    def _report_tunnels(self, now: float) -> None:
        """Report to the others which tunnels we reach; gateways that restart are given time to come back."""
        self._tunnels |= dict.fromkeys(self.gateways.up_since, now)
        reached = (kind.value for kind, at in self._tunnels.items() if now - at < NO_GATEWAY)
        self.members.tell_tunnels(frozenset(reached))

    # What changed.

    def _lease_changed(self, key: str) -> None:
        lease = self.cluster.leases.get(key)
        holder, before = lease.holder if lease is not None else "", self._holders.pop(key, "")
        if holder:
            self._holders[key] = holder
        if lease is not None and holder == before:
            return
        for each, step in ((before, -1), (holder, 1)):
            self._loads[each] += step
            if not each or not self._loads[each]:
                del self._loads[each]
        base = self._base(key.partition("/")[2])
        if base is not None:
            self._attempts.took(base, holder, self.clock.monotonic())
            self.roster.untaken.note(base)

    def _node_changed(self, name: str) -> None:
        base = self._base(name)
        if base is not None and not self.roster.serving(base) and self.leases.get(base) is None:
            self.roster.untaken.note(base)

    def _members_changed(self) -> None:
        self._all_dirty = True
        self._balance_at = float("-inf")
        self._attempts.clear()
        self.roster.untaken.nudge()

    def _tunnel(self, vnode: str) -> str:
        node = self.cluster.nodes.get(vnode)
        return node.annotations.get(contract.ANNOTATION_TUNNEL, "") if node is not None else ""

    def _base(self, name: str) -> BaseId | None:
        return base_of_node(name, self.policy.env)
