"""What gateways report about bases, and what bases are ordered to do.

Values as they come over the tunnel contract, freed of wire detail. Times are epoch milliseconds of the base's clock
where a base reports them.
"""

from dataclasses import dataclass
from enum import Enum

from controlplane.domain.identity import BaseId, ModuleKey, OrderId


class TunnelKind(Enum):
    """Transport between bases and a gateway."""

    HTTP = "http"
    MQTT = "mqtt"


class BaseState(Enum):
    """State that a base reports of itself."""

    UNSPECIFIED = "unspecified"
    ACTIVATED = "activated"
    DEACTIVATED = "deactivated"
    UNKNOWN = "unknown"


class ModuleState(Enum):
    """Life state of a module inside a base (sofa-ark BizState)."""

    UNSPECIFIED = "unspecified"
    UNRESOLVED = "unresolved"
    RESOLVED = "resolved"
    ACTIVATED = "activated"
    DEACTIVATED = "deactivated"
    BROKEN = "broken"
    STOPPED = "stopped"


class Verb(Enum):
    """What a base can be ordered to do with a module."""

    INSTALL = "install"
    UNINSTALL = "uninstall"
    SWITCH = "switch"


TIMEOUTS = {Verb.INSTALL: 600, Verb.UNINSTALL: 120, Verb.SWITCH: 60}
"""Seconds that bound one order each, from its arrival at the gateway."""


class InstallStrategy(Enum):
    """What an install does about what is there already.

    The first three are the bases' own; a base never gets FORCE, which means an installation for each Pod, also where
    name and version are there already.
    """

    DEFAULT = ""
    INSTALL_ONLY = "installOnly"
    UNINSTALL_THEN_INSTALL = "uninstallThenInstall"
    FORCE = "force"


@dataclass(frozen=True, slots=True)
class GatewayInfo:
    """Who a gateway says it is. instance changes with each start of its process."""

    gateway_id: str
    instance: str
    tunnel: TunnelKind
    version: str
    connected_wall: float

    @property
    def key(self) -> str:
        """Names this run of this gateway."""
        return f"{self.gateway_id}/{self.instance}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a base listens, port 0 when its tunnel does not report it, or where the API server finds a kubelet API."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Way:
    """How something came from a base: peer is the address that it came from, empty where that is not known."""

    tunnel: TunnelKind = TunnelKind.HTTP
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a base reports of itself."""

    name: str
    version: str
    cluster_name: str
    host_name: str
    address: Address
    state: BaseState
    way: Way = Way()


@dataclass(frozen=True, slots=True)
class Metaspace:
    """JVM metaspace in bytes; max is -1 when the JVM has no limit."""

    used: int
    max: int


@dataclass(frozen=True, slots=True)
class Health:
    """A health answer; what the base left out is None, empty, 0 or UNSPECIFIED.

    cpus is the number of CPUs of the base's machine, heap the bytes of heap in use. cpu is the seconds that these CPUs
    were busy since the base began to count, added up over all of them.
    """

    state: BaseState
    metaspace: Metaspace | None
    java_version: str
    cpus: int = 0
    heap: int | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Module:
    """One module as a base reports it."""

    key: ModuleKey
    state: ModuleState
    changed_at: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ModuleList:
    """A base's modules. epoch is that of the Watch in force when the base was asked, 0 without one."""

    modules: tuple[Module, ...]
    complete: bool
    unchanged: bool
    epoch: int


class PollFailure(Enum):
    """What a failed poll shows of the base."""

    UNSPECIFIED = "unspecified"
    NOT_CONNECTED = "not connected"
    NO_ANSWER = "no answer"
    NOT_A_BASE = "not a base"
    NEGATIVE = "negative"
    """It lives, and commands reach it."""


@dataclass(frozen=True, slots=True)
class PollFailed:
    """A watched base could not be asked; modules: for its modules, else for its health. reason is for people."""

    reason: str
    modules: bool = True
    failure: PollFailure = PollFailure.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class FenceSeen:
    """A gateway refused what we sent for a base, having seen this fence, which is higher."""

    fence: int


@dataclass(frozen=True, slots=True)
class TunnelState:
    """Whether a gateway reaches its transport at all, and why not."""

    up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BatchInstalled:
    """What became of a batch of installs: the verdict over all, and a reply for each URL that was answered for."""

    reply: "Reply"
    items: tuple[tuple[str, "Reply"], ...]


@dataclass(frozen=True, slots=True)
class BaselineQuery:
    """A starting base asks for its modules."""

    query_id: str
    name: str
    version: str
    cluster_name: str
    way: Way = Way()


Fact = Heartbeat | Health | ModuleList | PollFailed | FenceSeen | BatchInstalled | BaselineQuery
"""What gateways report of one base."""


class ReplyCode(Enum):
    """Outer response code of arklet."""

    UNSPECIFIED = 0
    SUCCESS = 1
    FAILED = 2
    CMD_NOT_FOUND = 3
    INTERNAL_ERROR = 4


class ClientCode(Enum):
    """Inner response code of sofa-ark."""

    UNSPECIFIED = 0
    SUCCESS = 1
    FAILED = 2
    REPEAT_BIZ = 3
    NOT_FOUND_BIZ = 4
    ILLEGAL_STATE_BIZ = 5


@dataclass(frozen=True, slots=True)
class Reply:
    """The base answered an order."""

    code: ReplyCode
    client_code: ClientCode = ClientCode.UNSPECIFIED
    message: str = ""
    stack_trace: str = ""
    modules: tuple[Module, ...] = ()


class Refusal(Enum):
    """Why a gateway did not carry out an order."""

    UNSPECIFIED = 0
    STALE_FENCE = 1
    BUSY = 2
    ADDRESS_NOT_ALLOWED = 3
    UNREACHABLE = 4
    INVALID = 5
    UNSUPPORTED = 6


@dataclass(frozen=True, slots=True)
class Refused:
    """The order had no effect on the base."""

    reason: Refusal
    message: str = ""


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The order may or may not have taken effect: only the base knows."""

    message: str = ""


Outcome = Reply | Refused | OutcomeUnknown | BatchInstalled


@dataclass(frozen=True, slots=True)
class OrderResult:
    """The outcome of one order."""

    order_id: OrderId
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """What is to be installed: url is where the base fetches the jar."""

    key: ModuleKey
    url: str
    args: tuple[str, ...] = ()
    envs: tuple[tuple[str, str], ...] = ()
    strategy: InstallStrategy = InstallStrategy.DEFAULT


@dataclass(frozen=True, slots=True)
class Order:
    """A command for a base; only an install may name more than one module, all of other names and URLs."""

    order_id: OrderId
    fence: int
    base: BaseId
    address: Address
    verb: Verb
    modules: tuple[ModuleSpec, ...]


@dataclass(frozen=True, slots=True)
class Watch:
    """Have a base polled. A higher epoch asks for the modules at once."""

    base: BaseId
    fence: int
    address: Address
    epoch: int
