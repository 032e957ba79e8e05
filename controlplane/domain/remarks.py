"""What is said of an object, for people: in Events, the log, and what tools read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remark:
    """One Event; reason is one PascalCase word, seconds how long something took where that is known."""

    warning: bool
    reason: str
    message: str
    seconds: float = 0.0

    @property
    def type(self) -> str:
        """Its type as Kubernetes calls it."""
        return "Warning" if self.warning else "Normal"
