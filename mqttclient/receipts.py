"""Acknowledgements to the broker, in the order in which messages came.

MQTT wants that order (MQTT-4.6.0-2), so one message that is held back holds back what came after it: at most as much as
the broker has under way to one client. That is the backpressure; nothing more arrives then, and nothing grows.
"""

from collections import deque
from collections.abc import Callable


class Receipt:
    """Belongs to one message; done once the message need not come again."""

    __slots__ = ("_settled", "done")

    def __init__(self, settled: Callable[[], None] = lambda: None) -> None:
        self._settled = settled
        self.done = False

    def settle(self) -> None:
        """Acknowledge the message, as soon as those before it are; again has no effect."""
        if not self.done:
            self.done = True
            self._settled()


class Acknowledgements:
    """The messages of one connection that were not acknowledged; send acknowledges one by its packet id."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._waiting: deque[tuple[int, Receipt]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def received(self, mid: int) -> Receipt:
        """Take note of a message with QoS 1."""
        receipt = Receipt(self._advance)
        self._waiting.append((mid, receipt))
        return receipt

    def _advance(self) -> None:
        while self._waiting and self._waiting[0][1].done:
            mid, _ = self._waiting.popleft()
            self._send(mid)
