"""How much callers may have under way at once, each and all together; what is beyond that is refused."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from controlplane.rpc.refusals import TooMuch

MIB = 1024 * 1024


class Kind(Enum):
    """What is under way."""

    CALL = "calls"
    WATCH = "watches"
    LINK = "streams of gateways and replicas"
    BYTE = "bytes of requests"


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one caller may have, and all."""

    each: int
    all: int


BOUNDS: Mapping[Kind, Bound] = {
    Kind.CALL: Bound(128, 1024),
    Kind.WATCH: Bound(128, 1024),
    Kind.LINK: Bound(1024, 2048),
    Kind.BYTE: Bound(16 * MIB, 64 * MIB),
}


class Places:
    """What is under way, by user."""

    def __init__(self, bounds: Mapping[Kind, Bound] = BOUNDS) -> None:
        self._bounds = bounds
        self._each: Counter[tuple[Kind, str]] = Counter()
        self._all: Counter[Kind] = Counter()

    def under_way(self, kind: Kind) -> int:
        """Return how much of a kind all have under way."""
        return self._all[kind]

    @contextmanager
    def taken(self, user: str, kind: Kind, much: int = 1) -> Iterator[None]:
        """Take places of a kind meanwhile; raises TooMuch."""
        key, bound = (kind, user), self._bounds[kind]
        if self._each[key] + much > bound.each:
            raise TooMuch(f"{user} has {bound.each} {kind.value} under way, the most for one caller")
        if self._all[kind] + much > bound.all:
            raise TooMuch(f"all callers together have {bound.all} {kind.value} under way, the most that are taken")
        self._each[key] += much
        self._all[kind] += much
        try:
            yield
        finally:
            self._all[kind] -= much
            self._each[key] -= much
            if not self._each[key]:
                del self._each[key]
