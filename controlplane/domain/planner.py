"""Desired against actual: which orders a base should get now.

A pure function of the Pods bound to the base, what is known of its modules, the
clock and the policy. Run again after anything changed it gives the rest of the
work; run on a base where desired and actual agree it gives nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from controlplane.domain.contract import ANNOTATION_INSTALL_STRATEGY
from controlplane.domain.facts import InstallStrategy, Module, ModuleSpec, ModuleState, Verb
from controlplane.domain.identity import ModuleKey
from controlplane.domain.modules import Modules, Trouble
from controlplane.domain.objects import Container, Pod


class OrphanPolicy(Enum):
    """Which modules without a Pod are uninstalled."""

    OWN = "own"
    """Those that this controller installed."""
    ALL = "all"
    """Every one, as the original does."""
    NONE = "none"
    """None."""


@dataclass(frozen=True, slots=True)
class Policy:
    """orders: most under way per base. orphan_grace: seconds that a module is without Pod before it is uninstalled."""

    orders: int = 8
    orphans: OrphanPolicy = OrphanPolicy.OWN
    orphan_grace: float = 30.0


@dataclass(frozen=True, slots=True)
class Wish:
    """One container of one Pod: the module that it wants, or wants no more when leaving."""

    spec: ModuleSpec
    leaving: bool


@dataclass(frozen=True, slots=True)
class Intent:
    """An order to be given."""

    verb: Verb
    spec: ModuleSpec


@dataclass(frozen=True, slots=True)
class Plan:
    """Orders to give now, when to plan again without news (None: never), and since when modules are orphans."""

    intents: tuple[Intent, ...]
    wake_at: float | None
    orphan_since: Mapping[ModuleKey, float]


def invalid(container: Container) -> str:
    """Say why a container cannot be a module, or return an empty text."""
    if not container.version:
        return "environment variable BIZ_VERSION is missing: it must hold the module's version"
    if ":" in container.version:
        return f"BIZ_VERSION {container.version!r} must not contain a colon"
    if not container.image:
        return "image is missing: it must hold the URL of the module's jar"
    return ""


def module_spec(pod: Pod, container: Container) -> ModuleSpec:
    """Return what a container of a module Pod asks a base to install."""
    text = pod.annotations.get(ANNOTATION_INSTALL_STRATEGY, "")
    strategy = next((s for s in InstallStrategy if s.value == text), InstallStrategy.DEFAULT)
    return ModuleSpec(
        key=ModuleKey(container.name, container.version),
        url=container.image,
        args=container.args,
        envs=tuple((name, value) for name, value in container.env if name != "BIZ_VERSION"),
        strategy=strategy,
    )


def wishes(pods: Iterable[Pod]) -> tuple[Wish, ...]:
    """Return what the Pods of a base want of it; pods come oldest first."""
    return tuple(
        Wish(module_spec(pod, container), pod.deleting)
        for pod in pods
        if pod.status.phase not in ("Succeeded", "Failed") or pod.deleting
        for container in pod.containers
        if not invalid(container)
    )


def plan(state: Modules, wanted: Sequence[Wish], *, now: float, policy: Policy) -> Plan:
    """Return the orders that bring the base nearer to what is wanted, oldest wish first."""
    if not state.told:
        return Plan((), None, state.orphan_since)
    groups: dict[str, _Group] = defaultdict(_Group)
    for wish in wanted:
        group = groups[wish.spec.key.name]
        (group.leaving if wish.leaving else group.live)[wish.spec.key] = wish.spec
    for key, module in state.present.items():
        groups[key.name].present[key] = module
    planner = _Planner(state, now, policy)
    intents = []
    for name, group in groups.items():
        planner.note_orphans(group)
        if state.settled(name) and (intent := planner.next_order(group)) is not None:
            intents.append(intent)
    room = max(policy.orders - len(state.in_flight), 0)
    return Plan(tuple(intents[:room]), planner.wake_at, MappingProxyType(planner.orphan_since))


class _Group:
    """Modules of one name: wanted (live), wanted by Pods that are being deleted (leaving), and present."""

    __slots__ = ("leaving", "live", "present")

    def __init__(self) -> None:
        self.live: dict[ModuleKey, ModuleSpec] = {}
        self.leaving: dict[ModuleKey, ModuleSpec] = {}
        self.present: dict[ModuleKey, Module] = {}


class _Planner:
    """One run of plan: collects when to wake."""

    def __init__(self, state: Modules, now: float, policy: Policy) -> None:
        self._state = state
        self._now = now
        self._policy = policy
        self.wake_at: float | None = None
        self.orphan_since: dict[ModuleKey, float] = {}

    def next_order(self, group: _Group) -> Intent | None:
        """Install what is missing, then put the newest wish in charge, then remove: so no version is missed."""
        return self._install(group) or self._switch(group) or self._uninstall(group)

    def note_orphans(self, group: _Group) -> None:
        for key in group.present:
            if key not in group.live and key not in group.leaving and self._ours(key):
                self.orphan_since[key] = self._state.orphan_since.get(key, self._now)

    def _install(self, group: _Group) -> Intent | None:
        for key, spec in group.live.items():
            module = group.present.get(key)
            if module is None:
                if self._ready(Verb.INSTALL, spec):
                    return Intent(Verb.INSTALL, spec)
            elif module.state is ModuleState.BROKEN and self._ready(Verb.INSTALL, spec, Verb.UNINSTALL):
                # A broken leftover answers REPEAT_BIZ to every install until it is removed.
                return Intent(Verb.UNINSTALL, ModuleSpec(key, url=""))
        return None

    def _switch(self, group: _Group) -> Intent | None:
        if not group.live:
            return None
        key, spec = list(group.live.items())[-1]
        module = group.present.get(key)
        if module is None or module.state is not ModuleState.DEACTIVATED or not self._ready(Verb.SWITCH, spec):
            return None
        return Intent(Verb.SWITCH, spec)

    def _uninstall(self, group: _Group) -> Intent | None:
        for key, module in group.present.items():
            if key in group.live or module.state is ModuleState.RESOLVED:
                continue
            spec = ModuleSpec(key, url="")
            due = key in group.leaving or (self._ours(key) and self._orphan_due(key, group))
            if due and self._ready(Verb.UNINSTALL, spec):
                return Intent(Verb.UNINSTALL, spec)
        return None

    def _ours(self, key: ModuleKey) -> bool:
        if self._policy.orphans is OrphanPolicy.OWN:
            return key in self._state.owned
        return self._policy.orphans is OrphanPolicy.ALL

    def _orphan_due(self, key: ModuleKey, group: _Group) -> bool:
        if group.live:
            # Superseded in place: the newer version must serve before the older one goes.
            return any(
                module.state is ModuleState.ACTIVATED for live, module in group.present.items() if live in group.live
            )
        due = self.orphan_since[key] + self._policy.orphan_grace
        if due <= self._now:
            return True
        self._wake(due)
        return False

    def _ready(self, verb: Verb, spec: ModuleSpec, *more: Verb) -> bool:
        trouble = self._state.troubles.get(spec.key)
        if trouble is None or not any(_applies(trouble, one, spec) for one in (verb, *more)):
            return True
        if trouble.not_before is None:
            return False
        if trouble.not_before <= self._now:
            return True
        self._wake(trouble.not_before)
        return False

    def _wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def _applies(trouble: Trouble, verb: Verb, spec: ModuleSpec) -> bool:
    """A wish that changed since is new and need not wait for what the old one did wrong."""
    return trouble.verb is verb and (verb is Verb.UNINSTALL or trouble.spec == spec)
