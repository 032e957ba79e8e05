"""Modules inside a base: the states that sofa-ark takes them through. Pure; times are epoch milliseconds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from simulatedbase.java import JavaError, thrown
from simulatedbase.profile import MultiVersion


class ModuleState(Enum):
    """State of a module inside a base (sofa-ark BizState)."""

    RESOLVED = "resolved"
    ACTIVATED = "activated"
    DEACTIVATED = "deactivated"
    BROKEN = "broken"


_STARTED = (ModuleState.ACTIVATED, ModuleState.DEACTIVATED)


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
        """Whether it may be stopped now."""
        return self.state in (*_STARTED, ModuleState.BROKEN)

    def enter(self, state: ModuleState, now: int, reason: str, message: str = "") -> None:
        """Record a change of state."""
        self.records.append(StateRecord(now, state, reason, message))


@dataclass(slots=True)
class Runtime:
    """The registry of modules, by name:version.

    Invariant: unless two versions may serve together, at most one version of a name is ACTIVATED. changed is called
    after each step that a client could see.
    """

    multi_version: MultiVersion
    broken_stays: bool
    changed: Callable[[], None] = lambda: None
    modules: dict[str, Biz] = field(default_factory=dict)

    def versions(self, name: str) -> list[Biz]:
        """Return all versions of a module."""
        return [biz for biz in self.modules.values() if biz.name == name]

    def register(self, biz: Biz, now: int) -> bool:
        """Register a module that is about to start; False when its identity is taken, in whatever state."""
        if biz.identity in self.modules:
            return False
        biz.enter(ModuleState.RESOLVED, now, "Created")
        self.modules[biz.identity] = biz
        self.changed()
        return True

    def started(self, biz: Biz, now: int) -> None:
        """Note that the main method of a module came back."""
        serving = self._serving(biz.name)
        if serving is None or self.multi_version is MultiVersion.BOTH:
            biz.enter(ModuleState.ACTIVATED, now, "Started")
        elif self.multi_version is MultiVersion.SWITCH:
            serving.enter(ModuleState.DEACTIVATED, now, "Switched", f"switch to new version {biz.identity}")
            biz.enter(ModuleState.ACTIVATED, now, "Started")
        else:
            biz.enter(ModuleState.DEACTIVATED, now, "Started", "start but is deactivated")
        self.changed()

    def broke(self, biz: Biz, now: int, reason: str, error: JavaError) -> None:
        """Note that the main method of a module, or its stop, threw."""
        biz.enter(ModuleState.BROKEN, now, reason, error.trace)
        self.changed()
        if not self.broken_stays:
            self._forget(biz)

    def uninstall(self, biz: Biz) -> None:
        """Stop and remove a module; raises JavaError while it starts."""
        if not biz.stoppable:
            raise thrown("java.lang.IllegalArgumentException", "BizState must be ACTIVATED, DEACTIVATED or BROKEN.")
        self._forget(biz)

    def switch(self, biz: Biz, now: int) -> bool:
        """Make one version the serving one; False unless it is ACTIVATED or DEACTIVATED."""
        if biz.state is ModuleState.DEACTIVATED:
            serving = self._serving(biz.name)
            message = ""
            if serving is not None:
                serving.enter(ModuleState.DEACTIVATED, now, "Switched", f"switch to new version {biz.identity}")
                message = f"switch from old version: {serving.identity}"
            biz.enter(ModuleState.ACTIVATED, now, "Switched", message)
            self.changed()
        return biz.state is ModuleState.ACTIVATED

    def path_taken(self, biz: Biz) -> bool:
        """Return whether another module that was started has the web context path of one that is not."""
        others = (other for other in self.modules.values() if other is not biz and other.state in _STARTED)
        return bool(biz.path) and any(other.path == biz.path for other in others)

    def _serving(self, name: str) -> Biz | None:
        return next((biz for biz in self.versions(name) if biz.state is ModuleState.ACTIVATED), None)

    def _forget(self, biz: Biz) -> None:
        # A module of the same identity may have taken the place of one that was removed.
        if self.modules.get(biz.identity) is biz:
            del self.modules[biz.identity]
        self.changed()
