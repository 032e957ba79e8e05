"""Which bases this replica takes, and which it gives away.

Looks at the leases of all bases, at who lives, and at what was heard; the fleet
then begins or ends terms. A base is another replica's as long as that one lives:
nothing is held here for it but what the informers have.

A base is taken
- at once, if its lease is ours or was given to us;
- when its holder is gone, shared out so that loads come out even; after a while by
  whoever is next, so that a replica that cannot is no reason to wait;
- when its lease ran out, whatever its holder is (an original, for example);
- when it has no lease and was heard, or has a Node: in the order that its name
  gives the replicas, later the more bases a replica has (IS_CLUSTER); with a Node
  it had a lease, whose last holder goes first.

Bases are given away while loads are uneven, or when this replica drains, or cannot
reach a tunnel that another one reaches.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import NoReturn

import structlog

from controlplane.app.gateways import GatewayDirectory
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster
from controlplane.domain import contract
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId, base_of_node, node_name
from controlplane.domain.objects import Lease
from controlplane.domain.ownership import lease as rules
from controlplane.domain.ownership import replicas

log = structlog.get_logger(__name__)

GATHER = 0.05
"""Seconds in which changes gather before they are looked at."""
LOOK_AT_ALL = 5.0
"""Seconds between looks at all bases: leases run out without a word."""
NODE_WITHOUT_LEASE = rules.SELF_FENCE_AFTER * 1.1
"""Seconds after which a Node that has no lease is taken care of by others than the last holder of its lease: that one
may act until then without knowing that somebody deleted it, or it may be about to remove the Node as well."""
NO_GATEWAY = 10.0
"""Seconds without a gateway after which a replica says that it does not reach a tunnel."""
BALANCE = 1.0
"""Seconds between two rounds of giving bases away."""
BALANCED_LOOK = 5.0
"""Seconds between two looks at whether loads are even, while they are."""
CALM = 5.0
"""Seconds without a change among the replicas, and without an outage, after which loads are evened out."""
ROUNDS = 20
"""A surplus is given away in about so many rounds."""
GIVE_AT_LEAST = 5
"""Bases that a round gives away at least."""


class Ownership:
    """Decides for the fleet.

    begin starts a term over a base, told why; serving tells whether one is under way
    or being tried; heard are the bases that spoke lately and are not served, forget
    drops one of them; spare gives those of a tunnel that can be given away, with or without the busy ones;
    give ends a term in favour of another replica, told why.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        clock: Clock,
        leases: LeaseKeeper,
        members: Membership,
        gateways: GatewayDirectory,
        policy: Policy,
        begin: Callable[[BaseId, str], None],
        serving: Callable[[BaseId], bool],
        heard: Callable[[], Collection[BaseId]],
        forget: Callable[[BaseId], object],
        spare: Callable[[str, bool], Iterable[BaseId]],
        give: Callable[[BaseId, str, str], None],
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._leases = leases
        self._members = members
        self._gateways = gateways
        self._policy = policy
        self._begin = begin
        self._serving = serving
        self._heard = heard
        self._forget = forget
        self._spare = spare
        self._give = give
        self._turns: dict[BaseId, tuple[float, str]] = {}
        self._holders: dict[str, str] = {}
        self._dirty: set[BaseId] = set()
        self._all_dirty = True
        self._wake = asyncio.Event()
        self._ending = False
        self._tunnels: dict[TunnelKind, float] = {}
        self._balance_at = float("-inf")
        self._looked_at = float("-inf")
        cluster.leases.subscribe(self._lease_changed)
        cluster.nodes.subscribe(self._node_changed)
        members.subscribe(self._members_changed)

    def note(self, base: BaseId) -> None:
        """Something of a base that nobody here serves changed: look whether it should be taken."""
        self._dirty.add(base)
        self._wake.set()

    def stop(self) -> None:
        """Take and give no more: this replica ends."""
        self._ending = True

    def elsewhere(self, base: BaseId) -> bool:
        """Tell whether a base is another live replica's, so that what is heard of it is not for us."""
        lease = self._lease(base)
        return lease is not None and self._leases.wait(lease) > 0

    async def run(self) -> NoReturn:
        """Take and give bases, for ever."""
        while True:
            now = self._clock.monotonic()
            self._tell_tunnels(now)
            # On what is out of date bases would be moved that need not be, and modules installed whose Pods are gone.
            if self._members.may_act() and not self._ending and self._cluster.trouble() is None:
                self._look(now)
                self._take_due(now)
                self._even_out(now)
            await self._rest()

    async def _rest(self) -> None:
        now = self._clock.monotonic()
        next_turn = min((at for at, _ in self._turns.values()), default=now + BALANCE)
        try:
            async with asyncio.timeout(max(min(next_turn - now, BALANCE), 0.0)):
                await self._wake.wait()
        except TimeoutError:
            pass
        await asyncio.sleep(GATHER)
        self._wake.clear()

    # Taking.

    def _look(self, now: float) -> None:
        if self._all_dirty or now - self._looked_at >= LOOK_AT_ALL:
            self._all_dirty, self._looked_at = False, now
            self._dirty.clear()
            self._look_at_all(now)
            return
        dirty, self._dirty = self._dirty, set()
        for base in sorted(dirty):
            self._look_at(base, now)

    def _look_at_all(self, now: float) -> None:
        loads: Counter[str] = Counter()
        orphans: dict[str, list[BaseId]] = defaultdict(list)
        bases: set[BaseId] = set(self._heard())
        bases |= {base for node in self._cluster.nodes.all() if (base := self._base(node.name)) is not None}
        me = self._members.me
        for lease in self._cluster.leases.all():
            loads[lease.holder] += 1
            if lease.holder != me and self._leases.orphaned(lease) and (base := self._base(lease.name)) is not None:
                orphans[self._tunnel(lease.name)].append(base)
        assigned: dict[str, str] = {}
        for tunnel, lost in orphans.items():
            assigned |= replicas.assigned(lost, loads, self._members.takers(tunnel))
        for base in sorted(bases | self._turns.keys()):
            self._look_at(base, now, assigned.get(base))

    def _look_at(self, base: BaseId, now: float, assigned_to: str | None = None) -> None:
        if self._serving(base):
            self._turns.pop(base, None)
            return
        lease = self._lease(base)
        if lease is not None and self._leases.wait(lease) > 0:
            # What we heard of it before it had an owner must not bring it back when that one removes it.
            self._forget(base)
            self._turns.pop(base, None)
            return
        turn = self._turn(base, lease, now, assigned_to)
        if turn is None:
            self._turns.pop(base, None)
        else:
            self._turns[base] = min(turn, self._turns.get(base, turn))

    def _turn(self, base: BaseId, lease: Lease | None, now: float, assigned_to: str | None) -> tuple[float, str] | None:
        """Return when this replica tries to take a base that may be taken, and why; None: not at all."""
        me = self._members.me
        if lease is not None and lease.holder == me:
            return now, "given"
        takers = self._members.takers(self._tunnel(node_name(base, self._policy.env)))
        if me not in takers:
            return None
        place = replicas.rank(me, base, takers)
        if lease is not None and lease.holder:
            if assigned_to is not None:
                wait = 0.0 if assigned_to == me else replicas.STEP_IN_AFTER * (1 + place)
                return now + wait, "holder-gone"
            why = "holder-gone" if self._leases.orphaned(lease) else "expired"
            return now + place * replicas.RANK_STEP, why
        wait = place * replicas.RANK_STEP
        if base in self._heard() and self._policy.clustered:
            # Who has fewer bases goes first; among those of one level the order is that of the names.
            level = replicas.level(self._leases.owned, len(self._holders), self._policy.most_level)
            wait = replicas.LEVEL_STEP * (level + place / len(takers))
        has_node = self._cluster.nodes.get(node_name(base, self._policy.env)) is not None
        if has_node and lease is None and not self._leases.abandoned(base):
            wait += NODE_WITHOUT_LEASE
        if base in self._heard():
            return now + wait, "new"
        return (now + wait, "node-without-lease") if has_node else None

    def _take_due(self, now: float) -> None:
        for base in [base for base, (at, _) in self._turns.items() if at <= now]:
            _, why = self._turns.pop(base)
            if not self._serving(base) and not self.elsewhere(base):
                self._begin(base, why)

    # Giving.

    def _even_out(self, now: float) -> None:
        live = self._members.replicas()
        draining = any(replica.draining and replica.id == self._members.me for replica in live)
        calm = draining or self._members.unchanged_for() >= CALM
        if len(live) < 2 or not calm or now < self._balance_at:
            return
        loads: dict[str, Counter[str]] = defaultdict(Counter)
        names = {replica.id for replica in live}
        for lease in self._cluster.leases.all():
            if lease.holder in names:
                loads[self._tunnel(lease.name)][lease.holder] += 1
        even = True
        for tunnel, load in loads.items():
            among = self._members.takers(tunnel)
            for receiver, count in replicas.gifts(self._members.me, load, among).items():
                why = "balance" if self._members.me in among else "drain" if draining else "no-gateway"
                self._give_some(tunnel, receiver, count, why)
                even = False
        self._balance_at = now + (BALANCED_LOOK if even else BALANCE)

    def _give_some(self, tunnel: str, receiver: str, surplus: int, why: str) -> None:
        most = max(GIVE_AT_LEAST, surplus // ROUNDS)
        given = 0
        for base in self._spare(tunnel, why != "balance"):
            if given >= min(most, surplus):
                break
            self._give(base, receiver, why)
            given += 1
        if given:
            log.info("bases given to another replica", replica=receiver, bases=given, left=surplus - given, why=why)

    def _tell_tunnels(self, now: float) -> None:
        """Tell the others which tunnels we reach; gateways that restart are given time to come back."""
        self._tunnels |= {kind: now for kind in TunnelKind if self._gateways.up_since(kind) is not None}
        reached = (kind.value for kind, at in self._tunnels.items() if now - at < NO_GATEWAY)
        self._members.tell_tunnels(frozenset(reached))

    # What changed.

    def _lease_changed(self, key: str) -> None:
        lease = self._cluster.leases.get(key)
        before = self._holders.get(key)
        if lease is not None and lease.holder == (before or ""):
            return
        if lease is None or not lease.holder:
            self._holders.pop(key, None)
        else:
            self._holders[key] = lease.holder
        base = self._base(key.partition("/")[2])
        if base is not None:
            self.note(base)

    def _node_changed(self, name: str) -> None:
        base = self._base(name)
        if base is not None and not self._serving(base) and self._lease(base) is None:
            self.note(base)

    def _members_changed(self) -> None:
        self._all_dirty = True
        self._balance_at = float("-inf")
        self._turns.clear()
        self._wake.set()

    def _tunnel(self, vnode: str) -> str:
        node = self._cluster.nodes.get(vnode)
        return node.annotations.get(contract.ANNOTATION_TUNNEL, "") if node is not None else ""

    def _lease(self, base: BaseId) -> Lease | None:
        return self._cluster.leases.get(f"{contract.LEASE_NAMESPACE}/{node_name(base, self._policy.env)}")

    def _base(self, name: str) -> BaseId | None:
        return base_of_node(name, self._policy.env)
