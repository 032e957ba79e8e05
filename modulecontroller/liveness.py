"""Whether a child process still works: what follows from its answers, and from their absence.

Only time in which the child was really asked counts as silence. A supervisor that stood still itself, on a frozen
machine say, knows nothing of that time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that children are given. Those for the end fit into the 30 s that Kubernetes gives a Pod."""

    start: float = 120.0
    """From the start of a process to its first answer."""
    silence: float = 30.0
    """Without an answer of a process that has answered before."""
    ask_every: float = 5.0
    """Between two questions; also the time for an answer."""
    stop: float = 12.0
    """From SIGTERM to SIGKILL."""
    stop_silent: float = 5.0
    """The same for a process that does not answer."""
    killed: float = 10.0
    """From SIGKILL to the end of the process, which the kernel may hold back."""


PATIENCE = Patience()


@dataclass(slots=True)
class Liveness:
    """What is known of one child, whose process may be replaced."""

    patience: Patience
    answered: bool = False
    """Whether the process that runs now has answered."""
    silent: float = 0.0
    """Seconds without an answer of any process, since the last one."""
    _silent_process: float = 0.0
    _ever_answered: bool = False

    def process_started(self) -> None:
        """Note that a new process runs."""
        self.answered = False
        self._silent_process = 0.0

    def heard(self) -> None:
        """Note an answer."""
        self.answered = self._ever_answered = True
        self.silent = self._silent_process = 0.0

    def missed(self, seconds: float) -> None:
        """Note so many seconds in which no answer came."""
        self.silent += seconds
        self._silent_process += seconds

    @property
    def fault(self) -> str:
        """Why the process has to be replaced, empty while it has not."""
        if not self.answered:
            late = self._silent_process >= self.patience.start
            return f"did not answer within {self.patience.start:g} s of its start" if late else ""
        late = self._silent_process >= self.patience.silence
        return f"has not answered for {self._silent_process:.0f} s" if late else ""

    @property
    def trouble(self) -> str:
        """What keeps the child from counting as alive, empty when nothing does; its first start is no trouble."""
        if self._ever_answered and self.silent >= self.patience.silence:
            return f"has not answered for {self.silent:.0f} s"
        return ""
