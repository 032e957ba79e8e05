"""How the VNodes of this replica stand: how many are in which phase, and whether removals are frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from controlplane.app.base.state import Base, Phase
from controlplane.app.events import Recorder
from controlplane.app.metrics import COMMANDS_FAIL, REMOVALS_FROZEN, VNODES
from controlplane.domain.base.liveness import mass_silence
from controlplane.domain.identity import BaseId


class Phases:
    """Counts; thawed is called when all bases are to be judged anew."""

    def __init__(self, recorder: Recorder, thawed: Callable[[], None]) -> None:
        self._recorder = recorder
        self._thawed = thawed
        self._count: Counter[Phase] = Counter()
        self._phase_of: dict[BaseId, Phase] = {}
        self._shown: dict[BaseId, object] = {}
        self._failing: set[BaseId] = set()
        self.frozen = False
        """So many bases are silent at once that none may be removed for it."""
        self.commands_fail = ""
        """Says that commands to most bases fail, so that the fault is likely ours; empty when they do not."""

    def changed(self, base: Base) -> bool:
        """Take how a base stands; tell whether tools see it otherwise than before."""
        before = self._phase_of.get(base.id)
        if before is not base.phase:
            if before is not None:
                self._count[before] -= 1
            self._count[base.phase] += 1
            self._phase_of[base.id] = base.phase
            self._measure()
        if bool(base.failing) is not (base.id in self._failing):
            (self._failing.add if base.failing else self._failing.discard)(base.id)
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
        self._failing.discard(base)
        self._measure()

    def _measure(self) -> None:
        for phase in Phase:
            VNODES.labels(phase.value).set(self._count[phase])
        self._measure_commands()
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

    def _measure_commands(self) -> None:
        COMMANDS_FAIL.set(len(self._failing))
        fail = mass_silence(len(self._failing), len(self._phase_of))
        if fail == bool(self.commands_fail):
            return
        if fail:
            self.commands_fail = "commands to most bases fail, as when the gateways cannot reach them"
            message = f"{self.commands_fail}: {len(self._failing)} of {len(self._phase_of)}; their VNodes stay Ready"
            self._recorder.replica(warning=True, reason="CommandsFail", message=message)
        else:
            self.commands_fail = ""
            message = "enough bases answer commands again"
            self._recorder.replica(warning=False, reason="CommandsArrive", message=message)
        self._thawed()
