"""What a tunnel and the control plane tell each other, freed of wire detail.

Durations are seconds, times are seconds since the epoch. What bases say stands in
``gateways.arklet.facts``; here is what the session adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from gateways.arklet.facts import (
    BaselineModule,
    BatchReply,
    Health,
    Heartbeat,
    Module,
    ModuleOrder,
    Reply,
    Verb,
)


class TunnelKind(Enum):
    """Transport between bases and a gateway."""

    HTTP = "http"
    MQTT = "mqtt"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a base listens, ip being a literal; port 0 when its tunnel does not tell."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class ModuleList:
    """A base's complete list of modules; epoch is that of the Watch in force when the question was sent, or 0."""

    modules: tuple[Module, ...]
    epoch: int = 0
    unchanged: bool = False


class PollFailure(Enum):
    """What a failed poll shows of the base."""

    UNSPECIFIED = "nothing"
    NOT_CONNECTED = "no connection"
    NO_ANSWER = "no answer"
    NOT_A_BASE = "no answer of a base"
    NEGATIVE = "negative answer"
    """The base lives, and commands reach it."""


@dataclass(frozen=True, slots=True)
class PollFailed:
    """A watched base could not be asked; reason is for people."""

    verb: Verb
    reason: str
    epoch: int = 0
    failure: PollFailure = PollFailure.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class BaselineQuery:
    """A starting base asks which modules it should start with."""

    query_id: str
    name: str
    version: str
    cluster_name: str


@dataclass(frozen=True, slots=True)
class TunnelState:
    """Whether the gateway reaches its transport at all, and why not; or what the transport does not give."""

    up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FenceSeen:
    """A message of the replica was refused: this higher fence was seen for the base."""

    fence: int


Fact: TypeAlias = Heartbeat | Health | ModuleList | PollFailed | BaselineQuery | BatchReply | TunnelState | FenceSeen


@dataclass(frozen=True, slots=True)
class Report:
    """One fact, whose it is (empty for TunnelState) and when the gateway learned it, by the wall clock."""

    base: str
    fact: Fact
    observed_at: float


@dataclass(frozen=True, slots=True)
class Order:
    """A command for a base, to be carried out at most once; timeout counts from its arrival."""

    order_id: str
    fence: int
    base: str
    address: Address
    verb: Verb
    modules: tuple[ModuleOrder, ...]
    timeout: float


class Refusal(Enum):
    """Why an order was not carried out."""

    STALE_FENCE = "stale fence"
    BUSY = "busy"
    ADDRESS_NOT_ALLOWED = "address not allowed"
    UNREACHABLE = "unreachable"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Refused:
    """The order had no effect on the base."""

    reason: Refusal
    message: str = ""


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The order may or may not have taken effect: only the base can tell."""

    message: str


Outcome: TypeAlias = Reply | BatchReply | Refused | OutcomeUnknown


@dataclass(frozen=True, slots=True)
class OrderResult:
    """The outcome of one order."""

    order_id: str
    base: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Watch:
    """Have a base polled. A higher epoch asks for its modules at once."""

    base: str
    fence: int
    address: Address
    epoch: int
    modules_interval: float
    health_interval: float
    silent_health_interval: float


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Stop polling a base."""

    base: str
    fence: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A replica owns the base: its reports go there only."""

    base: str
    fence: int


@dataclass(frozen=True, slots=True)
class Release:
    """A replica gave the base up."""

    base: str
    fence: int


@dataclass(frozen=True, slots=True)
class Member:
    """One control plane replica and the host:port of its gRPC server."""

    replica: str
    address: str


@dataclass(frozen=True, slots=True)
class Members:
    """All replicas known now."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Most unacknowledged messages on one stream, and most reports in one message."""

    max_unacked: int = 8
    max_batch: int = 128


@dataclass(frozen=True, slots=True)
class Welcome:
    """The replica took the stream."""

    replica: str
    members: tuple[Member, ...]
    limits: Limits


@dataclass(frozen=True, slots=True)
class ReportsAck:
    """The replica took everything up to and including seq."""

    seq: int


@dataclass(frozen=True, slots=True)
class BaselineAnswer:
    """Which modules a base should start with."""

    base: str
    query_id: str
    modules: tuple[BaselineModule, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """The replica is about to end the stream on purpose."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hello:
    """Who the gateway is; instance is random for each start of the process."""

    gateway: str
    instance: str
    tunnel: TunnelKind
    env: str
    version: str


Downward: TypeAlias = (
    Welcome | ReportsAck | Order | Watch | Unwatch | Claim | Release | BaselineAnswer | Members | Drain
)


class Tunnel(Protocol):
    """What a tunnel does for the session. Fences and duplicates were checked before."""

    async def execute(self, order: Order) -> Outcome:
        """Carry out an order within its timeout. When cancelled it may or may not have taken effect."""

    def watch(self, watch: Watch) -> None:
        """Poll a base from now on, or as this Watch says if it is polled already."""

    def unwatch(self, base: str) -> None:
        """Stop polling a base."""

    def settled(self, kept: OrderResult | Report) -> None:
        """Nobody else need keep this outcome: a replica has it, or it is kept here, or it was dropped. May repeat."""
