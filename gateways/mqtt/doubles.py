"""Whether other gateways answer the questions that this one answers: then the broker does not spread them. Pure.

What a gateway tells a base comes back to it, once. If another answer to the same
question comes too, another gateway had the question. One case proves nothing, since a
base that starts twice asks twice; several in a row, without one in between that this
gateway answered alone, do. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict

WINDOW = 5.0
"""Seconds after a question in which all answers to it are heard."""
ENOUGH = 3
"""Questions in a row."""
MOST = 1_024
"""Questions whose answers are counted at the same time."""


class Doubles:
    """Counts answers to questions."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._heard: set[str] = set()
        self._in_a_row = 0

    def asked(self, base: str, now: float) -> None:
        """A base asks this gateway."""
        while self._asked and (len(self._asked) >= MOST or now - next(iter(self._asked.values())) > WINDOW):
            alone, _ = self._asked.popitem(last=False)
            self._heard.discard(alone)
            self._in_a_row = 0
        self._asked.pop(base, None)
        self._heard.discard(base)
        self._asked[base] = now

    def answered(self, base: str) -> bool:
        """An answer to a base was heard; tell whether questions are now known to reach several gateways."""
        if base not in self._asked:
            return False
        if base not in self._heard:
            self._heard.add(base)
            return False
        del self._asked[base]
        self._heard.discard(base)
        self._in_a_row += 1
        return self._in_a_row >= ENOUGH
