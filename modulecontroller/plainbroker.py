"""amqtt without the shared subscriptions that it only seems to have."""

from __future__ import annotations

from amqtt.broker import Broker
from amqtt.session import Session

FAILURE = 0x80
"""Return code of a subscription that is refused (MQTT 3.1.1, section 3.9.3)."""


class PlainBroker(Broker):  # type: ignore[misc]  # amqtt has no types
    """Refuses shared subscriptions, where amqtt grants them, takes the filter by its letters and delivers nothing.

    Not a topic plugin: with one amqtt awaits while it goes through its table of
    subscriptions, and loses the message when that changes meanwhile (0.12).
    """

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Return the granted QoS, or FAILURE."""
        if subscription[0].startswith("$share/"):
            return FAILURE
        granted: int = await super().add_subscription(subscription, session)
        return granted
