"""Whether the broker lets the MQTT gateway in, what it may read there, and which bases are heard.

Only listens, in a session and a group of its own, so that nothing is taken away
from gateways that run. What is published is one message under a topic of its own,
which proves shared subscriptions; nothing is retained.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator

from gateways.arklet import topics
from gateways.arklet.topics import Word, from_all
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.mqtt.subscriptions import ANSWERS, NEWS, Sharing
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, error, ok, skipped, warning
from modulecontroller.doctor.heard import Heard
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import ConnectFailed, Lost, MqttError

ABOUT = "broker"
LISTEN = 12.0
"""Seconds of listening: bases beat every 10 s."""
EVERY_HEART = f"+/+/base/{Word.HEART.value}"
"""Heartbeats of all environments, to see those of bases that were told another one."""

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


async def check(configuration: Configuration, listen: float = LISTEN) -> AsyncIterator[Finding]:
    """Yield what is found at the broker."""
    settings = configuration.of(MqttGatewaySettings)
    if settings is None:
        yield skipped(ABOUT, configuration.why_not("mqtt-gateway"))
        return
    heard = Heard(settings.env)
    sharing = Sharing(settings.env, "gateway-doctor")

    def take(message: MqttMessage) -> None:
        if not sharing.is_probe(message):
            heard.take(message)
        message.receipt.settle()

    # Not under the gateway's own id: the broker would end the connection of the one that runs.
    connection = MqttConnection(settings.target(f"{settings.client_id}-doctor"), take)
    where = f"{settings.broker}:{settings.port}"
    try:
        await connection.open()
    except ConnectFailed as failed:
        fix = _FIXES.get(failed.cause, "look into the broker's log")
        yield error(ABOUT, f"{where}: {failed}", fix)
        return
    try:
        yield _connected(settings, where)
        async for finding in _subscriptions(settings, connection):
            yield finding
        await connection.subscribe([EVERY_HEART, from_all(settings.env, Word.HEART)], qos=0)
        await connection.subscribe(topics.to_all(settings.env), qos=0)
        await asyncio.wait((connection.ended,), timeout=listen)
        for finding in heard.findings(listen):
            yield finding
        if connection.ended.done():
            why = connection.ended.result()
            yield error(ABOUT, f"{where}: the connection ended: {why}", "look into the broker's log")
        else:
            yield await _shared(connection, sharing)
    except MqttError as failed:
        words = f"{failed}, when the broker was asked to {connection.asked}" if connection.asked else str(failed)
        yield error(ABOUT, f"{where}: {words}", "look into the broker's log, and at the rights of this user")
    finally:
        connection.close()


def _connected(settings: MqttGatewaySettings, where: str) -> Finding:
    who = f"as {settings.username}" if settings.username else "without a user name"
    if settings.tls and not settings.tls_insecure:
        return ok(ABOUT, f"{where} lets us in {who}; its certificate is good")
    if settings.tls:
        words = f"{where} lets us in {who}; MQTT_TLS_INSECURE=true: its certificate is not checked, and anybody on the "
        return warning(ABOUT, f"{words}way can install modules", "unset MQTT_TLS_INSECURE and name the CA")
    if _loopback(settings.broker):
        return ok(ABOUT, f"{where} lets us in {who}, without TLS")
    words = f"{where} lets us in {who}, without TLS: anybody on the way can install modules"
    return warning(ABOUT, words, "turn TLS on at the broker and name its CA with MQTT_CA_PATH")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _subscriptions(settings: MqttGatewaySettings, connection: MqttConnection) -> AsyncIterator[Finding]:
    needed = [from_all(settings.env, word) for word in (*ANSWERS, *NEWS)]
    taken = await connection.subscribe(needed, qos=0)
    refused = [name for name, yes in zip(needed, taken, strict=True) if not yes]
    if refused:
        fix = f"let this user read koupleless_{settings.env}/+/base/# and write koupleless_{settings.env}/#"
        yield error("subscriptions", f"the broker refuses {', '.join(refused)}", fix)
        return
    # Heartbeats come once below; this was about the right to have them.
    await connection.unsubscribe(needed)
    yield ok("subscriptions", f"the broker grants all {len(needed)} that are needed")


async def _shared(connection: MqttConnection, sharing: Sharing) -> Finding:
    """Put shared subscriptions to the test, which may end the connection."""
    about = "shared subscriptions"
    try:
        why_not = await sharing.prove(connection)
    except Lost:
        why_not = sharing.extra.held
    if not why_not:
        return ok(about, "the broker has them: gateways share the load")
    fix = "none needed for one gateway; for several, use a broker with shared subscriptions, such as Mosquitto 2"
    return warning(about, f"the broker has none for this user, each gateway hears every base: {why_not}", fix)
