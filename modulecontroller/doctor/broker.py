"""What a start depends on at the broker: that it lets the MQTT gateway in, and what is to be received there.

Only listens, in a session and a group of its own, so that nothing is taken away from gateways that run. What is
published is one message under a topic of its own, which proves shared subscriptions; nothing is retained.
"""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from gateways.arklet import envelopes, topics
from gateways.arklet.fields import Malformed
from gateways.arklet.names import InvalidName, parse_identity
from gateways.arklet.topics import Word, from_all
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.mqtt.subscriptions import ANSWERS, NEWS, Subscriptions
from mctl.text import some
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.cluster import FIX_CLOCK, SKEW
from modulecontroller.doctor.findings import Finding, error, need, ok, warning
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import ConnectFailed, Lost, MqttError
from service.listening import is_address

LISTEN = 12.0
"""Seconds of listening: bases send a heartbeat every 10 s."""
EVERY_HEART = f"+/+/base/{Word.HEART.value}"
"""Heartbeats of all environments, to see those of bases with another one."""
MOST = 20_000
"""Bases, and commands, that are remembered."""
_PREFIX = "koupleless_"
_SHOWN = 100

_FIXES = {
    "name": "set MQTT_BROKER to a name that resolves on this machine",
    "unreachable": "start the broker, or correct MQTT_BROKER and MQTT_PORT; look at firewalls and NetworkPolicies",
    "timeout": "correct MQTT_BROKER and MQTT_PORT; a firewall or NetworkPolicy may swallow the connection",
    "certificate": "name the CA that signed the broker's certificate with MQTT_CA_PATH, and the broker as its "
    "certificate does with MQTT_BROKER",
    "tls": "MQTT_PORT may be one without TLS: name the broker's TLS port (often 8883), or unset MQTT_CA_PATH",
    "credentials": "set MQTT_USERNAME and MQTT_PASSWORD to a user of the broker",
    "client_id": "let the broker take client ids that begin with MQTT_CLIENT_PREFIX",
    "lost": "MQTT_PORT may be one with TLS: set MQTT_CA_PATH, or name the port without TLS",
}
"""By the causes of ConnectFailed."""

T = TypeVar("T")


async def broker(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield what is found at the broker."""
    settings = need(configuration, MqttGatewaySettings)
    traffic = Traffic(settings.env)
    subscriptions = Subscriptions(settings.env, "gateway-doctor")

    def take(message: MqttMessage) -> None:
        if not subscriptions.is_probe(message):
            traffic.take(message)
        message.receipt.settle()

    # Not under the gateway's own id: the broker would end the connection of the one that runs.
    connection = MqttConnection(settings, settings.client_id_of(f"{settings.client_id}-doctor"), take)
    where = f"{settings.broker}:{settings.port}"
    try:
        await connection.open()
    except ConnectFailed as failed:
        yield error(f"{where}: {failed}", _FIXES.get(failed.cause, "look into the broker's log"))
        return
    try:
        yield _connected(settings, where)
        yield await _subscriptions(settings, connection)
        await connection.subscribe({EVERY_HEART: 0, from_all(settings.env, Word.HEART): 0})
        await connection.subscribe(dict.fromkeys(topics.to_all(settings.env), 0))
        await asyncio.wait((connection.ended,), timeout=LISTEN)
        for finding in traffic.findings(LISTEN):
            yield finding
        if connection.ended.done():
            yield error(f"{where}: the connection ended: {connection.ended.result()}", "look into the broker's log")
        else:
            yield await _shared(connection, subscriptions)
    except MqttError as failed:
        words = f"{failed}, when the broker was asked to {connection.asked}" if connection.asked else str(failed)
        yield error(f"{where}: {words}", "look into the broker's log, and at the rights of this user")
    finally:
        connection.close()


def _connected(settings: MqttGatewaySettings, where: str) -> Finding:
    entered = f"{where} lets us in " + (f"as {settings.username}" if settings.username else "without a user name")
    danger = "anybody on the way can install modules"
    if settings.tls and not settings.tls_insecure:
        return ok(f"{entered}; its certificate is good")
    if settings.tls:
        words = f"{entered}; MQTT_TLS_INSECURE=true: its certificate is not checked, and {danger}"
        return warning(words, "unset MQTT_TLS_INSECURE and name the CA")
    host = settings.broker
    if host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback):
        return ok(f"{entered}, without TLS")
    fix = "turn TLS on at the broker and name its CA with MQTT_CA_PATH"
    return warning(f"{entered}, without TLS: {danger}", fix)


async def _subscriptions(settings: MqttGatewaySettings, connection: MqttConnection) -> Finding:
    needed = [from_all(settings.env, word) for word in (*ANSWERS, *NEWS)]
    taken = await connection.subscribe(dict.fromkeys(needed, 0))
    refused = [name for name, yes in zip(needed, taken, strict=True) if not yes]
    if refused:
        fix = f"let this user read koupleless_{settings.env}/+/base/# and write koupleless_{settings.env}/#"
        return error(f"the broker refuses {', '.join(refused)}", fix, about="subscriptions")
    # Heartbeats come once below; this was about the right to have them.
    await connection.unsubscribe(needed)
    return ok(f"the broker grants all {len(needed)} that are needed", about="subscriptions")


async def _shared(connection: MqttConnection, subscriptions: Subscriptions) -> Finding:
    """Put shared subscriptions to the test, which may end the connection."""
    try:
        why_not = await subscriptions.prove(connection)
    except Lost:
        why_not = subscriptions.sharing.held
    if not why_not:
        return ok("the broker has them: gateways share the load", about="shared subscriptions")
    words = f"the broker has none for this user, each gateway receives what every base sends: {why_not}"
    fix = "none needed for one gateway; for several, use a broker with shared subscriptions, such as Mosquitto 2"
    return warning(words, fix, about="shared subscriptions")


@dataclass(slots=True)
class Traffic:
    """Takes messages and says what they show; now returns epoch seconds."""

    _env: str
    _now: Callable[[], float] = time.time
    _late: dict[str, float] = field(default_factory=dict)
    """By base, the seconds between the time stamp of a heartbeat and its arrival."""
    _elsewhere: dict[str, str] = field(default_factory=dict)
    """A base for each other environment."""
    _faults: dict[str, Finding] = field(default_factory=dict)
    """By base, what keeps it from being used."""
    _left: dict[str, str] = field(default_factory=dict)
    """By topic, the base for which a command of another controller lies ready."""

    def take(self, message: MqttMessage) -> None:
        """Take a message, whatever it is."""
        if message.retained:
            addressee = topics.addressee(message.topic, self._env)
            if addressee is not None and message.payload:
                _keep(self._left, message.topic, addressee)
            return
        levels = message.topic.split("/")
        if len(levels) != 4 or levels[2:] != ["base", Word.HEART.value] or not levels[0].startswith(_PREFIX):
            return
        env, base = levels[0].removeprefix(_PREFIX)[:_SHOWN], levels[1][:_SHOWN]
        if env != self._env:
            _keep(self._elsewhere, env, base)
            return
        try:
            parse_identity(base, env)
            opened = envelopes.envelope(message.payload)
            envelopes.heartbeat(opened)
        except InvalidName as invalid:
            words, fix = f"cannot be used: {invalid}", "give the base a metadata hook with an identity that lasts"
            _keep(self._faults, base, error(f"the base {base} {words}", fix, about="topics"))
        except Malformed as malformed:
            words = f"what the base {base} sends is not understood: {malformed}"
            _keep(self._faults, base, error(words, "see docs/protocol.md", about="topics"))
        else:
            _keep(self._late, base, self._now() - opened.published_at / 1000)

    def findings(self, seconds: float) -> Iterator[Finding]:
        """Yield what was received in so many seconds."""
        yield from self._topics(seconds)
        yield from self._clocks()
        yield self._leftovers()

    def _topics(self, seconds: float) -> Iterator[Finding]:
        about = "topics"
        where = topics.from_all(self._env, Word.HEART)
        if self._late:
            bases = some(sorted(self._late))
            yield ok(f"{len(self._late)} bases send heartbeats under {where}: {bases}", about=about)
        elif not self._faults:
            fix = "see that bases run and have their broker set; up to runtime 1.4.0 heartbeats come every 2 minutes"
            yield warning(f"no heartbeat came under {where} in {seconds:g} s", fix, about=about)
        for env, base in sorted(self._elsewhere.items()):
            alike = " (which differs only in case)" if env.lower() == self._env else ""
            words = f"bases such as {base} send heartbeats in the environment {env}{alike}: not served here"
            fix = f"set ENV={env} here, or give the bases' metadata hook the runtime environment {self._env}"
            yield warning(words, fix, about=about)
        yield from self._faults.values()

    def _clocks(self) -> Iterator[Finding]:
        # A late delivery makes a base's clock look slow, so that only what is far off is reported.
        skewed = {base: late for base, late in self._late.items() if abs(late) > SKEW}
        if skewed:
            base, late = max(skewed.items(), key=lambda item: abs(item[1]))
            words = f"{len(skewed)} of {len(self._late)} bases have clocks more than {SKEW:g} s off: "
            words += f"{some(sorted(skewed))}; {base} is {abs(late):.0f} s {'behind' if late > 0 else 'ahead'}"
            yield warning(words, FIX_CLOCK, about="clocks of bases")
        elif self._late:
            yield ok(f"all within {SKEW:g} s of this machine's", about="clocks of bases")

    def _leftovers(self) -> Finding:
        if not self._left:
            return ok("no retained commands of another controller", about="leftovers")
        bases = some(sorted(set(self._left.values())))
        words = f"{len(self._left)} retained commands of another controller lie ready for {bases}: a base that "
        words += "connects carries them out again"
        fix = "start the MQTT gateway: it removes them for each base that shows life; stop the other controller first"
        return warning(words, fix, about="leftovers")


def _keep(into: dict[str, T], key: str, value: T) -> None:
    if key in into or len(into) < MOST:
        into[key] = value
