"""Desired against actual: which orders a base should get now.

A pure function of the Pods bound to the base, what is known of its modules, the clock and the policy. Run again after
anything changed it gives the rest of the work; run on a base where desired and actual agree it gives nothing.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum

from controlplane.domain.base.modules import Modules
from controlplane.domain.base.releases import MISTAKEN, UNKNOWN, Release, outdated
from controlplane.domain.base.wishes import Wish, exclusive
from controlplane.domain.facts import Module, ModuleSpec, ModuleState, Verb
from controlplane.domain.identity import ModuleKey


class OrphanPolicy(Enum):
    """Which modules without a Pod are uninstalled."""

    OWN = "own"
    """Those that this controller installed."""
    ALL = "all"
    """Every one, as the original does."""
    NONE = "none"
    """None."""


@dataclass(frozen=True, slots=True)
class ModulePolicy:
    """orders: most under way per base. orphan_grace: seconds that a module is without Pod before it is uninstalled."""

    orders: int = 8
    orphans: OrphanPolicy = OrphanPolicy.OWN
    orphan_grace: float = 30.0


@dataclass(frozen=True, slots=True)
class Intent:
    """An order for one module, to be given for a Pod (a UID; empty for an uninstall)."""

    verb: Verb
    spec: ModuleSpec
    release: Release = UNKNOWN
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The state with what was learned, orders to give now, and when to plan again without news (None: never).

    Each order is one intent, or several installs to be given as one batch. waits says whether something may have to be
    done as soon as the list comes that was asked for.
    """

    state: Modules
    orders: tuple[tuple[Intent, ...], ...] = ()
    wake_at: float | None = None
    waits: bool = True


def plan(
    state: Modules,
    wanted: Sequence[Wish],
    *,
    now: float,
    policy: ModulePolicy,
    batches: bool = False,
    switches: bool = True,
) -> Plan:
    """Return the orders that bring the base nearer to what is wanted, oldest wish first.

    batches and switches say whether the base takes such orders over the tunnel that is used now.
    """
    if not state.listed:
        return Plan(state)
    groups = _groups(state, wanted)
    planner = _Planner(state, now, policy, switches=switches)
    intents = []
    for name, group in groups.items():
        planner.note_orphans(group)
        # What is held a starting base may be installing by itself.
        free = state.settled(name) and planner.reached(state.held.get(name, now))
        if free and (intent := planner.next_order(name, group)) is not None:
            intents.append(intent)
    orders = _batched(intents, state) if batches else tuple((intent,) for intent in intents)
    room = max(policy.orders - len(state.orders()), 0)
    alone = frozenset(name for name in planner.alone if name in groups)
    if (planner.orphan_since, alone) != (state.orphan_since, state.alone):
        state = replace(state, orphan_since=planner.orphan_since, alone=alone)
    return Plan(state, orders[:room], planner.wake_at, waits=not state.needs.keys().isdisjoint(groups))


def _groups(state: Modules, wanted: Sequence[Wish]) -> Mapping[str, "_Group"]:
    """Return the modules for which something may have to be done, by name, those with the oldest wish first."""
    names = _in_question(state, wanted)
    groups: dict[str, _Group] = defaultdict(_Group)
    for wish in wanted:
        if wish.spec.key.name in names:
            group = groups[wish.spec.key.name]
            side = group.leaving if wish.leaving else group.live
            # The newest wish for a module decides, also over the place in the order.
            side.pop(wish.spec.key, None)
            side[wish.spec.key] = wish
    for key, module in state.present.items():
        if key.name in names:
            groups[key.name].present[key] = module
    return groups


def _in_question(state: Modules, wanted: Sequence[Wish]) -> AbstractSet[str]:
    """Return all names but those of which one version is wanted and just that is there, which most are."""
    names, there = set(state.alone), dict[str, ModuleKey]()
    for wish in wanted:
        key = wish.spec.key
        module = state.present.get(key)
        active = module is not None and module.state is ModuleState.ACTIVATED
        if active and not wish.leaving and not outdated(state.owned.get(key, UNKNOWN), wish.release):
            there[key.name] = key
        else:
            names.add(key.name)
    names.update(key.name for key in state.present if there.get(key.name) != key)
    return names


def _batched(intents: Sequence[Intent], state: Modules) -> tuple[tuple[Intent, ...], ...]:
    """Put the installs of each Pod into one order.

    Bases answer batches by URL and take one at a time. What once failed is installed alone, so that it holds nothing
    else up.
    """
    orders: list[tuple[Intent, ...]] = []
    batches: dict[str, dict[str, Intent]] = defaultdict(dict)
    for intent in intents:
        fit = intent.verb is Verb.INSTALL and intent.pod and intent.spec.key not in state.troubles
        if fit and intent.spec.url not in batches[intent.pod]:
            batches[intent.pod][intent.spec.url] = intent
        else:
            orders.append((intent,))
    # A batch has several parts under way.
    free = len(state.orders()) == len(state.in_flight)
    for batch in batches.values():
        if len(batch) > 1 and free:
            orders.append(tuple(batch.values()))
            free = False
        else:
            orders += [(intent,) for intent in batch.values()]
    return tuple(orders)


@dataclass(slots=True)
class _Group:
    """Modules of one name: wanted (live), wanted by Pods that are being deleted (leaving), and present."""

    live: dict[ModuleKey, Wish] = field(default_factory=dict)
    leaving: dict[ModuleKey, Wish] = field(default_factory=dict)
    present: dict[ModuleKey, Module] = field(default_factory=dict)


class _Planner:
    """One run of plan: collects when to wake, and names of which the base cannot have two versions in service."""

    def __init__(self, state: Modules, now: float, policy: ModulePolicy, *, switches: bool) -> None:
        self._state = state
        self._now = now
        self._policy = policy
        self._switches = switches
        self.wake_at: float | None = None
        self.orphan_since: dict[ModuleKey, float] = {}
        self.alone = set(state.alone)

    def next_order(self, name: str, group: _Group) -> Intent | None:
        """Install what is missing, then put the newest wish in charge, then remove: so no version is missed."""
        newest = next(reversed(group.live.values()), None)
        if newest is not None and self._stuck(newest):
            self.alone.add(name)
        if newest is not None and (name in self.alone or any(exclusive(wish) for wish in group.live.values())):
            return self._replace(newest, group)
        return self._install(group) or self._switch(newest, group) or self._uninstall(group)

    def reached(self, at: float) -> bool:
        """Return whether a time has come; if not, the next plan is to be made then at the latest."""
        if at <= self._now:
            return True
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)
        return False

    def note_orphans(self, group: _Group) -> None:
        for key in group.present:
            if key not in group.live and key not in group.leaving and self._ours(key):
                spared = self._state.spared.get(key, self._now) - self._policy.orphan_grace
                self.orphan_since[key] = self._state.orphan_since.get(key, max(self._now, spared))

    def _replace(self, newest: Wish, group: _Group) -> Intent | None:
        """Have the newest wish alone: first remove what is in its place."""
        key, module = newest.spec.key, group.present.get(newest.spec.key)
        group.leaving |= {k: wish for k, wish in group.live.items() if k != key}
        group.live = {key: newest}
        if module is not None and self._good(newest, module):
            return self._uninstall(group) or self._switch(newest, group)
        if not self._ready(newest.spec, Verb.INSTALL, Verb.UNINSTALL):
            return None
        if module is not None:
            return None if module.state is ModuleState.RESOLVED else _removal(key)
        for other, state in ((k, m.state) for k, m in group.present.items() if k in group.leaving or self._ours(k)):
            # A version that is starting cannot be removed yet, and starting another beside it is of no use.
            return None if state is ModuleState.RESOLVED else _removal(other)
        return _installation(newest)

    def _good(self, wish: Wish, module: Module) -> bool:
        """The module is, or is about to be, what the wish is for."""
        if self._outdated(wish):
            return False
        if module.state is ModuleState.DEACTIVATED:
            return not self._stuck(wish)
        return module.state is not ModuleState.BROKEN

    def _install(self, group: _Group) -> Intent | None:
        for key, wish in group.live.items():
            module = group.present.get(key)
            if module is None:
                if self._ready(wish.spec, Verb.INSTALL):
                    return _installation(wish)
            elif self._in_the_way(wish, module) and self._ready(wish.spec, Verb.INSTALL, Verb.UNINSTALL):
                return _removal(key)
        return None

    def _in_the_way(self, wish: Wish, module: Module) -> bool:
        """What is there answers REPEAT_BIZ to every install until it is removed, which a starting one cannot be."""
        if module.state is ModuleState.RESOLVED:
            return False
        return module.state is ModuleState.BROKEN or self._outdated(wish)

    def _switch(self, newest: Wish | None, group: _Group) -> Intent | None:
        if newest is None:
            return None
        module = group.present.get(newest.spec.key)
        if module is None or module.state is not ModuleState.DEACTIVATED:
            return None
        return Intent(Verb.SWITCH, newest.spec) if self._ready(newest.spec, Verb.SWITCH) else None

    def _uninstall(self, group: _Group) -> Intent | None:
        starting = any(
            module.state is ModuleState.RESOLVED for key, module in group.present.items() if key in group.live
        )
        for key, module in group.present.items():
            if key in group.live or module.state is ModuleState.RESOLVED:
                continue
            if starting and module.state is ModuleState.ACTIVATED:
                continue  # It serves, and what takes its place does not yet.
            due = key in group.leaving or (self._ours(key) and self._orphan_due(key, group))
            removal = _removal(key)
            if due and self._ready(removal.spec, Verb.UNINSTALL):
                return removal
        return None

    def _stuck(self, wish: Wish) -> bool:
        """The wish's module is there, out of service, and cannot be put in charge: it must be started alone."""
        key = wish.spec.key
        module = self._state.present.get(key)
        if module is None or module.state is not ModuleState.DEACTIVATED:
            return False
        trouble = self._state.troubles.get(key)
        impossible = trouble is not None and trouble.verb is Verb.SWITCH and trouble.not_before is None
        return not self._switches or impossible

    def _outdated(self, wish: Wish) -> bool:
        return outdated(self._state.owned.get(wish.spec.key, UNKNOWN), wish.release)

    def _ours(self, key: ModuleKey) -> bool:
        if self._policy.orphans is OrphanPolicy.OWN:
            return key in self._state.owned
        return self._policy.orphans is OrphanPolicy.ALL

    def _orphan_due(self, key: ModuleKey, group: _Group) -> bool:
        if group.live and self._state.owned.get(key) != MISTAKEN:
            # Superseded in place: the newer version must serve before the older one goes.
            return any(
                module.state is ModuleState.ACTIVATED for live, module in group.present.items() if live in group.live
            )
        return self.reached(self.orphan_since[key] + self._policy.orphan_grace)

    def _ready(self, spec: ModuleSpec, *verbs: Verb) -> bool:
        """No trouble with one of these orders keeps a module waiting."""
        trouble = self._state.troubles.get(spec.key)
        if trouble is None or trouble.verb not in verbs:
            return True
        if trouble.verb is not Verb.UNINSTALL and trouble.spec != spec:
            # A wish that changed since is new and need not wait for what the old one did wrong.
            return True
        return trouble.not_before is not None and self.reached(trouble.not_before)


def _installation(wish: Wish) -> Intent:
    return Intent(Verb.INSTALL, wish.spec, wish.release, wish.pod)


def _removal(key: ModuleKey) -> Intent:
    return Intent(Verb.UNINSTALL, ModuleSpec(key, url=""))
