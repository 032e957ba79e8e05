"""Who is given a baseline: only bases that were examined, where they are, since its URLs may carry credentials."""

from enum import Enum

from controlplane.domain.base.leaving import known_way
from controlplane.domain.base.state import Base
from controlplane.domain.base.vnode import address_of
from controlplane.domain.facts import TunnelKind, Way
from controlplane.domain.objects import Node


class Asker(Enum):
    """Who asks in the name of a base."""

    BASE = "base"
    UNKNOWN = "baseline-too-early"
    """It has not answered a command yet: perhaps it will."""
    STRANGER = "baseline-stranger"
    """The base is known, and is elsewhere."""


def asker(base: Base | None, node: Node | None, way: Way) -> Asker:
    """Judge a question by the base as its owner knows it, else by its Node.

    Over MQTT the answer goes to the topic of the base, whoever asked.
    """
    if node is None and (base is None or not base.admitted):
        return Asker.UNKNOWN
    if way.tunnel is TunnelKind.MQTT or (base is not None and known_way(base.signs.leaving, way)):
        return Asker.BASE
    address = base.profile.address if base is not None else address_of(node) if node is not None else None
    return Asker.BASE if address is not None and way.peer == address.ip else Asker.STRANGER
