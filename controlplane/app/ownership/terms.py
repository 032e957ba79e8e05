"""One term of ownership of a base, as its Lease has it and is to have it."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.app.ownership.records import recorded_modules
from controlplane.domain import contract
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Lease


@dataclass(slots=True)
class Term:
    """One term of ownership; renewed_at is monotonic."""

    base: BaseId
    fence: int
    lease: Lease
    renewed_at: float
    due: float = 0.0
    """When it is renewed next; what else is in the queue for it is void."""
    failures: int = 0
    ending: bool = False
    modules: str | None = None
    """The record of installed modules that the lease is to have, None as long as nobody says."""
    urgent: bool = False
    """The record is to be written at once, not along with the next renewal."""

    def news(self) -> dict[str, str]:
        """Return the annotations that the next write of the lease brings along."""
        if self.modules is None or self.modules == recorded_modules(self.lease):
            return {}
        return {contract.ANNOTATION_OWNED_MODULES: self.modules}
