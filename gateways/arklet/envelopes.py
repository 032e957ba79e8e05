"""What bases publish over MQTT: an envelope with the time of publishing by the base's clock, and data in it.

Everything raises Malformed for what is not understood as a whole.
"""

import ipaddress
from dataclasses import dataclass
from typing import Any

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.commands import COMMANDS
from gateways.arklet.fields import Json, Malformed, first_object, kind, lenient_integer, required_object, required_text
from gateways.arklet.text import NAME_LIMIT


@dataclass(frozen=True, slots=True)
class Envelope:
    """Something published; published_at is epoch milliseconds of the base's clock."""

    data: Any
    published_at: int

    @property
    def content(self) -> Json:
        """The data where it has to be an object; raises Malformed."""
        if not isinstance(self.data, dict):
            raise Malformed(f"data: expected an object, got {kind(self.data)}")
        return self.data


@dataclass(frozen=True, slots=True)
class Operation:
    """The answer to an install or uninstall. It names its module as the command did."""

    verb: pb.Verb.ValueType
    name: str
    version: str
    reply: pb.Reply


_OPERATIONS = {COMMANDS[verb]: verb for verb in (pb.VERB_INSTALL, pb.VERB_UNINSTALL)}


def envelope(payload: bytes) -> Envelope:
    """Open an envelope; raises Malformed."""
    opened = first_object(payload)
    published_at = lenient_integer(opened, "publishTimestamp")
    if published_at is None or not 0 < published_at <= payloads.LATEST:
        raise Malformed("publishTimestamp: expected epoch milliseconds")
    return Envelope(opened.get("data"), published_at)


def heartbeat(opened: Envelope) -> pb.Report:
    """Read a heartbeat; raises Malformed.

    Nobody connects to a base over MQTT. What is not an address (bases that find none say "unknown") is left out.
    """
    report = payloads.heartbeat(opened.content)
    try:
        ipaddress.ip_address(report.heartbeat.address.ip)
    except ValueError:
        report.heartbeat.address.ip = ""
    return report


def operation(opened: Envelope) -> Operation:
    """Read the answer to an install or uninstall; raises Malformed."""
    data = opened.content
    verb = _OPERATIONS.get(required_text(data, "command", "data.command", NAME_LIMIT))
    if verb is None:
        raise Malformed("data.command: neither installBiz nor uninstallBiz")
    return Operation(
        verb=verb,
        name=required_text(data, "bizName", "data.bizName", NAME_LIMIT),
        version=required_text(data, "bizVersion", "data.bizVersion", NAME_LIMIT),
        reply=payloads.reply(required_object(data, "response")),
    )


def batch_reply(opened: Envelope) -> pb.BatchInstallResult:
    """Read how a baseline went; raises Malformed."""
    return payloads.batch_reply(required_object(opened.content, "response"))
