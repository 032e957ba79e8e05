"""Modules inside a base: the states that sofa-ark takes them through. Pure; times are epoch milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateways.arklet.facts import ModuleState
from simulatedbase.java import thrown
from simulatedbase.profile import MultiVersion

REGISTERED_PRIORITY = 100

_STOPPABLE = frozenset({ModuleState.ACTIVATED, ModuleState.DEACTIVATED, ModuleState.BROKEN})


@dataclass(frozen=True, slots=True)
class StateRecord:
    """One change of state; reason is sofa-ark's text for it."""

    time: int
    state: ModuleState
    reason: str
    message: str = ""


@dataclass(slots=True)
class Biz:
    """A registered module."""

    name: str
    version: str
    main_class: str = ""
    path: str = ""
    """Web context path; empty for one that serves no HTTP."""
    work_dir: str = ""
    priority: int = REGISTERED_PRIORITY
    records: list[StateRecord] = field(default_factory=list)
    """Oldest first; never empty once registered."""

    @property
    def identity(self) -> str:
        """name:version."""
        return f"{self.name}:{self.version}"

    @property
    def state(self) -> ModuleState:
        """The state that the module is in."""
        return self.records[-1].state

    @property
    def stoppable(self) -> bool:
        """It may be stopped now."""
        return self.state in _STOPPABLE

    def enter(self, state: ModuleState, now: int, reason: str, message: str = "") -> None:
        """Record a change of state."""
        self.records.append(StateRecord(now, state, reason, message))


class Runtime:
    """The registry of modules.

    Invariant: unless two versions may serve together, at most one version of a
    name is ACTIVATED. changed is called after each step that a client could see.
    """

    def __init__(
        self, multi_version: MultiVersion, *, broken_stays: bool, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._multi_version = multi_version
        self._broken_stays = broken_stays
        self._changed = changed
        self._modules: dict[tuple[str, str], Biz] = {}

    def modules(self) -> list[Biz]:
        """Return what is registered, by priority, in the order of registration."""
        return sorted(self._modules.values(), key=lambda biz: biz.priority)

    def get(self, name: str, version: str) -> Biz | None:
        """Return one module."""
        return self._modules.get((name, version))

    def register(
        self, name: str, version: str, now: int, main_class: str, *, path: str = "", work_dir: str = ""
    ) -> Biz | None:
        """Register a module that is about to start; None when its identity is taken, in whatever state."""
        if (name, version) in self._modules:
            return None
        biz = Biz(name, version, main_class, path, work_dir)
        biz.enter(ModuleState.RESOLVED, now, "Created")
        self._modules[name, version] = biz
        self._changed()
        return biz

    def started(self, biz: Biz, now: int) -> None:
        """Note that the main method of a module came back."""
        serving = self._serving(biz.name)
        if serving is None or self._multi_version is MultiVersion.BOTH:
            biz.enter(ModuleState.ACTIVATED, now, "Started")
        elif self._multi_version is MultiVersion.SWITCH:
            serving.enter(ModuleState.DEACTIVATED, now, "Switched", f"switch to new version {biz.identity}")
            biz.enter(ModuleState.ACTIVATED, now, "Started")
        else:
            biz.enter(ModuleState.DEACTIVATED, now, "Started", "start but is deactivated")
        self._changed()

    def failed(self, biz: Biz, now: int, trace: str) -> None:
        """Note that the main method of a module threw."""
        self._broke(biz, now, "Install Failed", trace)

    def not_stopped(self, biz: Biz, now: int, trace: str) -> None:
        """Note that the stop of a module threw."""
        self._broke(biz, now, "Uninstall Failed", trace)

    def uninstall(self, name: str, version: str) -> bool:
        """Stop and remove a module; False when there is none. Raises JavaError while it starts."""
        biz = self.get(name, version)
        if biz is None:
            return False
        if not biz.stoppable:
            raise thrown("java.lang.IllegalArgumentException", "BizState must be ACTIVATED, DEACTIVATED or BROKEN.")
        self._forget(biz)
        self._changed()
        return True

    def uninstall_all(self, name: str) -> None:
        """Stop and remove all versions of a module; raises JavaError while one starts."""
        for biz in self.versions(name):
            self.uninstall(name, biz.version)

    def switch(self, name: str, version: str, now: int) -> bool:
        """Make one version the serving one; False unless it is ACTIVATED or DEACTIVATED."""
        biz = self._modules[name, version]
        if biz.state is ModuleState.ACTIVATED:
            return True
        if biz.state is not ModuleState.DEACTIVATED:
            return False
        serving = self._serving(name)
        message = ""
        if serving is not None:
            serving.enter(ModuleState.DEACTIVATED, now, "Switched", f"switch to new version {biz.identity}")
            message = f"switch from old version: {serving.identity}"
        biz.enter(ModuleState.ACTIVATED, now, "Switched", message)
        self._changed()
        return True

    def path_taken(self, biz: Biz) -> bool:
        """Tell whether another module that was started has the web context path of one that is not."""
        started = (ModuleState.ACTIVATED, ModuleState.DEACTIVATED)
        others = (other for other in self._modules.values() if other is not biz and other.state in started)
        return bool(biz.path) and any(other.path == biz.path for other in others)

    def versions(self, name: str) -> list[Biz]:
        """Return all versions of a module."""
        return [biz for biz in self._modules.values() if biz.name == name]

    def _serving(self, name: str) -> Biz | None:
        return next((biz for biz in self.versions(name) if biz.state is ModuleState.ACTIVATED), None)

    def _broke(self, biz: Biz, now: int, reason: str, trace: str) -> None:
        biz.enter(ModuleState.BROKEN, now, reason, trace)
        self._changed()
        if not self._broken_stays:
            self._forget(biz)
            self._changed()

    def _forget(self, biz: Biz) -> None:
        # A module of the same identity may have taken the place of one that was removed.
        if self._modules.get((biz.name, biz.version)) is biz:
            del self._modules[biz.name, biz.version]
