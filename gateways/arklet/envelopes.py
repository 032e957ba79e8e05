"""What bases publish over MQTT: an envelope with the time of publishing by the base's clock, and data in it.

Everything raises Malformed for what is not understood as a whole.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Any

from gateways.arklet import payloads
from gateways.arklet.facts import BatchReply, Health, Heartbeat, Metadata, Module, Reply, Verb
from gateways.arklet.fields import Json, Malformed, first_object, kind, lenient_integer, required_object, required_text
from gateways.arklet.text import NAME_LIMIT

LATEST = 253_402_300_799_999
"""Last millisecond of the year 9999."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Something published; published_at is epoch milliseconds of the base's clock."""

    data: Any
    published_at: int


@dataclass(frozen=True, slots=True)
class Operation:
    """The answer to an install or uninstall. It names its module as the command did."""

    verb: Verb
    name: str
    version: str
    reply: Reply


_OPERATIONS = {verb.value: verb for verb in (Verb.INSTALL, Verb.UNINSTALL)}


def envelope(payload: bytes) -> Envelope:
    """Open an envelope; raises Malformed."""
    opened = first_object(payload)
    published_at = lenient_integer(opened, "publishTimestamp")
    if published_at is None or not 0 < published_at <= LATEST:
        raise Malformed("publishTimestamp: expected epoch milliseconds")
    return Envelope(opened.get("data"), published_at)


def heartbeat(opened: Envelope) -> Heartbeat:
    """Read a heartbeat; raises Malformed.

    Nobody connects to a base over MQTT, so an address that is none (bases that find no
    address say "unknown") is one that was not told.
    """
    beat = payloads.heartbeat_of(_object(opened))
    try:
        ipaddress.ip_address(beat.ip)
    except ValueError:
        return replace(beat, ip="")
    return beat


def metadata(opened: Envelope) -> Metadata:
    """Read a baseline query; raises Malformed."""
    return payloads.metadata_of(_object(opened))


def health(opened: Envelope) -> Health:
    """Read the answer to health; raises Malformed or Negative."""
    return payloads.health_of(_object(opened))


def simple_modules(opened: Envelope) -> tuple[Module, ...]:
    """Read the short form of the module list, which is complete; raises Malformed."""
    return payloads.simple_modules(opened.data)


def modules(opened: Envelope) -> tuple[Module, ...]:
    """Read the long form of the module list, which old runtimes publish; raises Malformed or Negative."""
    return payloads.modules_of(_object(opened))


def operation(opened: Envelope) -> Operation:
    """Read the answer to an install or uninstall; raises Malformed."""
    told = _object(opened)
    command = required_text(told, "command", "data.command", NAME_LIMIT)
    verb = _OPERATIONS.get(command)
    if verb is None:
        raise Malformed("data.command: neither installBiz nor uninstallBiz")
    return Operation(
        verb=verb,
        name=required_text(told, "bizName", "data.bizName", NAME_LIMIT),
        version=required_text(told, "bizVersion", "data.bizVersion", NAME_LIMIT),
        reply=payloads.reply_of(required_object(told, "response")),
    )


def batch_reply(opened: Envelope) -> BatchReply:
    """Read how a baseline went; raises Malformed."""
    return payloads.batch_reply_of(required_object(_object(opened), "response"))


def _object(opened: Envelope) -> Json:
    if not isinstance(opened.data, dict):
        raise Malformed(f"data: expected an object, got {kind(opened.data)}")
    return opened.data
