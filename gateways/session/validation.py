"""Whether a message of a replica can be acted on. Nothing that it says is trusted. Pure.

One bad message is one counted line in the log and has no effect.
"""

from google.protobuf.duration_pb2 import Duration
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.commands import COMMANDS

MAX_TIMEOUT = 24 * 3600.0
"""Seconds: the longest timeout or interval that makes sense."""

_OF_A_BASE = frozenset({"order", "watch", "unwatch", "claim", "release", "baseline_answer"})
_DURATIONS = {"order": ("timeout",), "watch": ("modules_interval", "health_interval", "silent_health_interval")}


class InvalidMessage(ValueError):
    """A message of a replica cannot be acted on; the message says why."""


def check(message: pb.ConnectResponse) -> None:
    """Raise InvalidMessage for what is missing or out of range. Kinds that only a newer replica sends pass."""
    kind = message.WhichOneof("message")
    if kind is None:
        return
    about = getattr(message, kind)
    name = type(about).__name__
    if kind in _OF_A_BASE and not about.base_id:
        raise InvalidMessage(f"{name} without base_id")
    if kind == "order":
        if not message.order.order_id:
            raise InvalidMessage("Order without order_id")
        if message.order.verb not in COMMANDS:
            raise InvalidMessage(f"Order with unknown verb {message.order.verb}")
    for field in _DURATIONS.get(kind, ()):
        given = seconds(getattr(about, field))
        if not 0 < given <= MAX_TIMEOUT:
            raise InvalidMessage(f"{name}.{field} of {given:g} s is not in 0 to {MAX_TIMEOUT:g}")


def seconds(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.seconds + duration.nanos / 1e9
