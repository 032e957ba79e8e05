"""Counts the bases of this replica by phase, and notices faults of most of them at once, which are likely ours."""

from collections import Counter
from dataclasses import replace

from controlplane.app.events import Recorder
from controlplane.app.metrics import COMMANDS_FAIL, REMOVALS_FROZEN, VNODES
from controlplane.domain.base.liveness import Outage, mass_silence
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.remarks import Remark

FAIL = "commands to most bases fail, as when the gateways cannot reach them"


class Outages:
    """Keeps ``now``: whether most bases are silent, or do not answer commands."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._count: Counter[Phase] = Counter()
        self._admitted: Counter[Phase] = Counter()
        self._failing = 0
        self.now = Outage()

    def count(self, before: Base | None, after: Base | None) -> bool:
        """Take how a base is now and was before, None: not ours; return whether ``now`` changed."""
        old, new = _state(before), _state(after)
        if old == new:
            return False
        for state, step in ((old, -1), (new, 1)):
            if state is not None:
                phase, failing, admitted = state
                self._count[phase] += step
                self._admitted[phase] += step * admitted
                self._failing += step * (failing and admitted)
        return self._measure()

    def _measure(self) -> bool:
        for phase in Phase:
            VNODES.labels(phase.value).set(self._count[phase])
        COMMANDS_FAIL.set(self._failing)
        # Inventions prove nothing.
        bases, silent = self._admitted.total(), self._admitted[Phase.UNREACHABLE]
        frozen, fail = mass_silence(silent, bases), mass_silence(self._failing, bases)
        before, self.now = self.now, replace(self.now, removals_frozen=frozen, commands_fail=FAIL if fail else "")
        if frozen is not before.removals_frozen:
            REMOVALS_FROZEN.set(frozen)
            message = f"most bases fell silent together, {silent}: none is removed for it"
            over = Remark(False, "RemovalsPossible", "enough bases answer again")
            self._recorder.replica(Remark(True, "RemovalsFrozen", message) if frozen else over)
        if fail is not bool(before.commands_fail):
            message = f"{FAIL}: {self._failing} of {bases}; their VNodes stay Ready"
            over = Remark(False, "CommandsArrive", "enough bases answer commands again")
            self._recorder.replica(Remark(True, "CommandsFail", message) if fail else over)
        return self.now != before


def _state(base: Base | None) -> tuple[Phase, bool, bool] | None:
    return (base.phase, bool(base.signs.failing), base.admitted) if base is not None else None
