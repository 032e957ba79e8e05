"""How the VNodes of this replica stand: how many are in which phase, and whether removals are frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from controlplane.app.base import Base, Phase
from controlplane.app.events import Recorder
from controlplane.app.metrics import REMOVALS_FROZEN, VNODES
from controlplane.domain.identity import BaseId
from controlplane.domain.liveness import mass_silence


class Phases:
    """Counts; thawed is called when removals are possible again."""

    def __init__(self, recorder: Recorder, thawed: Callable[[], None]) -> None:
        self._recorder = recorder
        self._thawed = thawed
        self._count: Counter[Phase] = Counter()
        self._phase_of: dict[BaseId, Phase] = {}
        self._shown: dict[BaseId, object] = {}
        self.frozen = False
        """So many bases are silent at once that none may be removed for it."""

    def changed(self, base: Base) -> bool:
        """Take how a base stands; tell whether tools see it otherwise than before."""
        before = self._phase_of.get(base.id)
        if before is not base.phase:
            if before is not None:
                self._count[before] -= 1
            self._count[base.phase] += 1
            self._phase_of[base.id] = base.phase
            self._measure()
        # Immutable parts are compared by identity: cheap enough for every look of every actor.
        shown = (base.phase, base.why, base.gateway, base.fence, id(base.profile), id(base.modules.present))
        if self._shown.get(base.id) == (shown, len(base.modules.in_flight)):
            return False
        self._shown[base.id] = (shown, len(base.modules.in_flight))
        return True

    def ended(self, base: BaseId) -> None:
        """A base is not ours any more."""
        if base in self._phase_of:
            self._count[self._phase_of.pop(base)] -= 1
        self._shown.pop(base, None)
        self._measure()

    def _measure(self) -> None:
        for phase in Phase:
            VNODES.labels(phase.value).set(self._count[phase])
        silent = self._count[Phase.UNREACHABLE]
        frozen = mass_silence(silent, len(self._phase_of))
        if frozen == self.frozen:
            return
        self.frozen = frozen
        REMOVALS_FROZEN.set(frozen)
        if frozen:
            message = f"most bases fell silent together, {silent}: none is removed for it"
            self._recorder.replica(warning=True, reason="RemovalsFrozen", message=message)
        else:
            message = "enough bases answer: removals are possible again"
            self._recorder.replica(warning=False, reason="RemovalsPossible", message=message)
            self._thawed()
