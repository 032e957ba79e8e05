"""New bases: which of those that wait is examined next. Anybody can invent identities, so that none is believed yet.

To examine a base costs a Lease, an actor and questions. So few are examined at the same time (``AT_ONCE``), and a
source, the peer or gateway that their heartbeats come from, has at most ``OF_ONE_SOURCE`` of these places. Sources take
turns. Within one those go first whose heartbeat came again after ``PERSISTENT`` seconds, in the order in which they
came: who invents identities mostly uses each once.

A base that answers is admitted, and gives its place back. One that does not answer keeps its place while nobody else
wants it; after ``EXAMINED_FOR`` seconds it has to give it to who waits, and is examined again later and later.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from controlplane.domain.backoff import Backoff
from controlplane.domain.identity import BaseId

AT_ONCE = 128
OF_ONE_SOURCE = 96
EXAMINED_FOR = 6.0
PERSISTENT = 5.0
"""Seconds."""
AGAIN = Backoff(first=30.0, longest=600.0)
"""Between two examinations of a base that did not answer."""


class Waiting:
    """New bases that wait, by source."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, tuple[OrderedDict[BaseId, None], OrderedDict[BaseId, None]]] = OrderedDict()
        """Of each source those that came again, and the others. The source whose turn it is comes first."""

    def __len__(self) -> int:
        return sum(len(queue) for queues in self._sources.values() for queue in queues)

    def add(self, base: BaseId, source: str, *, persistent: bool) -> None:
        """Have a base wait, once."""
        again, others = self._sources.setdefault(source, (OrderedDict(), OrderedDict()))
        if persistent:
            others.pop(base, None)
        if base not in others:
            (again if persistent else others).setdefault(base)

    def take(self, full: Collection[str]) -> tuple[BaseId, str] | None:
        """Return the base whose turn it is, and its source; sources that are full are passed over."""
        source = next((source for source in self._sources if source not in full), None)
        if source is None:
            return None
        queues = self._sources.pop(source)
        base, _ = (queues[0] or queues[1]).popitem(last=False)
        if any(queues):
            self._sources[source] = queues
        return base, source

    def keep(self, bases: Collection[BaseId]) -> None:
        """Forget all others."""
        for source, queues in tuple(self._sources.items()):
            for queue in queues:
                for base in [base for base in queue if base not in bases]:
                    del queue[base]
            if not any(queues):
                del self._sources[source]


@dataclass(slots=True)
class Places:
    """Who is examined, by base: the source, and since when, in monotonic seconds."""

    _held: dict[BaseId, tuple[str, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[BaseId]:
        return iter(tuple(self._held))

    @property
    def free(self) -> int:
        """How many places nobody has."""
        return AT_ONCE - len(self._held)

    def full(self) -> frozenset[str]:
        """Return the sources that have all the places that one may have."""
        counts = Counter(source for source, _ in self._held.values())
        return frozenset(source for source, count in counts.items() if count >= OF_ONE_SOURCE)

    def give(self, base: BaseId, source: str, now: float) -> None:
        """Give a base a place."""
        self._held[base] = source, now

    def end(self, base: BaseId) -> None:
        """Take the place of a base back."""
        self._held.pop(base, None)

    def overdue(self, now: float) -> list[BaseId]:
        """Return who had its time, those first who have been there for longest."""
        late = [(since, base) for base, (_, since) in self._held.items() if now - since >= EXAMINED_FOR]
        return [base for _, base in sorted(late)]
