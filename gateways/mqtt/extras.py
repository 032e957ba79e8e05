"""What a gateway asks of a broker and can do without.

Brokers refuse with a return code, by ending the connection (as MQTT 5 demands), or by not answering. A gateway that
asked again on each connection would never serve where one of these ends it, so a broker that ended a connection over
something is not asked for it for a while.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from mqttclient.connection import MqttConnection
from mqttclient.failures import Unanswered

log = structlog.get_logger(__name__)

HOLD = 3600.0
"""Most seconds for which a broker is not asked again for what it ended a connection over."""
FIRST_HOLD = 60.0
"""The same the first time: it may have ended by chance. Twice as much each further time."""
WITHIN = 3.0
"""Seconds that a broker has for an answer."""


@dataclass(slots=True)
class Extra:
    """One such thing: its name, and what follows where the broker does not give it."""

    name: str
    without: str
    why_not: str = ""
    """Why the broker does not give it; empty when it does, or was not asked yet."""
    _held_until: float = float("-inf")
    _hold: float = FIRST_HOLD
    _ended: str = ""

    @property
    def note(self) -> str:
        """What is missing, why, and what follows; empty when nothing is."""
        return f"{self.name}: {self.why_not}; {self.without}" if self.why_not else ""

    @property
    def held(self) -> str:
        """Why the broker must not be asked now; empty when it may."""
        return self._ended if asyncio.get_running_loop().time() < self._held_until else ""

    def hold(self, why_not: str, seconds: float) -> None:
        """Do without for so long."""
        self._held_until, self._ended = asyncio.get_running_loop().time() + seconds, why_not

    async def allowed(self) -> None:
        """Wait until the broker may be asked."""
        while self.held:
            self.settle(self.held)
            await asyncio.sleep(self._held_until - asyncio.get_running_loop().time())

    @contextmanager
    def asked_of(self, connection: MqttConnection) -> Iterator[None]:
        """Ask the broker for it meanwhile: if the connection ends now, that is why."""
        try:
            yield
        finally:
            if not connection.up:
                self.hold(f"the broker ended the connection when it was asked to {connection.asked}", self._hold)
                self._hold = min(2 * self._hold, HOLD)

    async def subscribe(self, connection: MqttConnection, filters: Mapping[str, int]) -> str:
        """Subscribe to filters, each with its QoS; return why not, empty if the broker lets us. Raises Lost."""
        if self.held:
            return self.held
        with self.asked_of(connection):
            try:
                taken = await connection.subscribe(filters, within=WITHIN)
            except Unanswered as error:
                return str(error)
        refused = [name for name, yes in zip(filters, taken, strict=True) if not yes]
        return f"the broker refuses to subscribe to {', '.join(refused)}" if refused else ""

    def settle(self, why_not: str) -> None:
        """Take note of how it stands; a change is logged once."""
        changed, self.why_not = why_not != self.why_not, why_not
        if not why_not:
            self._hold = FIRST_HOLD
        if changed and why_not:
            log.warning("the broker does not give all", what=self.name, saw=why_not, follows=self.without)
        elif changed:
            log.info("the broker gives what it did not before", what=self.name)
