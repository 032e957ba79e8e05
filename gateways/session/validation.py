"""Whether a message of a replica can be acted on. Nothing that it says is trusted. Pure.

One bad message is one counted line in the log and has no effect.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.commands import COMMANDS

MAX_TIMEOUT = 24 * 3600.0
"""Seconds: the longest timeout or interval that makes sense."""

_OF_A_BASE = frozenset({"order", "watch", "unwatch", "claim", "release", "baseline_answer"})


class Malformed(ValueError):
    """A message of a replica cannot be acted on; the message says why."""


def check(message: pb.ConnectResponse) -> None:
    """Raise Malformed for what is missing or out of range. Kinds that only a newer replica sends pass."""
    kind = message.WhichOneof("message")
    if kind == "welcome" and not message.welcome.replica_id:
        raise Malformed("Welcome without replica_id")
    if kind in _OF_A_BASE:
        about = getattr(message, kind)
        if not about.base_id:
            raise Malformed(f"{type(about).__name__} without base_id")
    if kind == "order":
        if not message.order.order_id:
            raise Malformed("Order without order_id")
        if message.order.verb not in COMMANDS:
            raise Malformed(f"Order with unknown verb {message.order.verb}")
        _check_seconds(message.order.timeout, "Order.timeout")
    elif kind == "watch":
        _check_seconds(message.watch.modules_interval, "Watch.modules_interval")
        _check_seconds(message.watch.health_interval, "Watch.health_interval")
        _check_seconds(message.watch.silent_health_interval, "Watch.silent_health_interval")


def seconds(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def _check_seconds(duration: Duration, where: str) -> None:
    if not 0 < seconds(duration) <= MAX_TIMEOUT:
        raise Malformed(f"{where} of {seconds(duration):g} s is not in 0 to {MAX_TIMEOUT:g}")
