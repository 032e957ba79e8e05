"""What one actor knows of its base. Only that actor writes it; everything else reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from controlplane.domain.base.history import History
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.vnode import Profile
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId, VNodeName


class Phase(Enum):
    """Where a VNode stands in its life."""

    DISCOVERED = "discovered"
    CLAIMED = "claimed"
    READY = "ready"
    UNREACHABLE = "unreachable"
    DEAD = "dead"


@dataclass(slots=True)
class Base:
    """One base. Monotonic times unless named wall."""

    id: BaseId
    vnode: VNodeName
    profile: Profile
    discovered_wall: float
    phase: Phase = Phase.DISCOVERED
    fence: int = 0
    term_began: float = 0.0
    last_heard: float = 0.0
    last_heard_wall: float = 0.0
    heard_over: dict[TunnelKind, float] = field(default_factory=dict)
    """When each tunnel last showed life of it."""
    healthy_answer: bool = False
    last_answered: float = 0.0
    """When it last answered a command that counts: with its modules, or with the outcome of an order."""
    failing: str = ""
    """Why the last such command failed, empty when it did not."""
    gateway: str = ""
    """Gateway that watches the base, or that last showed life of it."""
    why: str = ""
    """Why it is not ready, in words."""
    modules: Modules = field(default_factory=Modules)
    history: History = ()
    """The last operations on its modules."""
