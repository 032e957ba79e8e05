"""Acknowledgements to the broker, in the order in which messages came.

MQTT wants that order (MQTT-4.6.0-2), so one message that is held back holds back
what came after it: at most as much as the broker has under way to one client.
That is the gateway's backpressure; nothing more arrives then, and nothing grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateways.mqtt.metrics import UNACKNOWLEDGED


class Receipt:
    """One message that came; done once it need not come again."""

    __slots__ = ("_queue", "done", "mid")

    def __init__(self, queue: Acknowledgements, mid: int) -> None:
        self._queue = queue
        self.mid = mid
        self.done = False

    def settle(self) -> None:
        """Acknowledge the message, as soon as those before it are; again has no effect."""
        if not self.done:
            self.done = True
            self._queue.advance()


class Acknowledgements:
    """The messages of one connection that were not acknowledged; send acknowledges one by its packet id."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._waiting: deque[Receipt] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def received(self, mid: int) -> Receipt:
        """Take note of a message with QoS 1."""
        receipt = Receipt(self, mid)
        self._waiting.append(receipt)
        UNACKNOWLEDGED.set(len(self._waiting))
        return receipt

    def advance(self) -> None:
        """Acknowledge what may be acknowledged."""
        while self._waiting and self._waiting[0].done:
            self._send(self._waiting.popleft().mid)
        UNACKNOWLEDGED.set(len(self._waiting))
