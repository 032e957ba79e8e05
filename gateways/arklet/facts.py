"""What bases say, once understood: small frozen facts without any wire detail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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


class ReplyCode(Enum):
    """Outer response code of arklet."""

    UNSPECIFIED = "UNSPECIFIED"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CMD_NOT_FOUND = "CMD_NOT_FOUND"
    CMD_PROCESS_INTERNAL_ERROR = "CMD_PROCESS_INTERNAL_ERROR"


class ClientCode(Enum):
    """Inner response code of sofa-ark for install, uninstall and switch."""

    UNSPECIFIED = "UNSPECIFIED"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    REPEAT_BIZ = "REPEAT_BIZ"
    NOT_FOUND_BIZ = "NOT_FOUND_BIZ"
    ILLEGAL_STATE_BIZ = "ILLEGAL_STATE_BIZ"


class Verb(Enum):
    """Command of arklet; the value is the path and topic segment."""

    INSTALL = "installBiz"
    UNINSTALL = "uninstallBiz"
    SWITCH = "switchBiz"
    BATCH_INSTALL = "batchInstallBiz"
    QUERY_MODULES = "queryAllBiz"
    HEALTH = "health"
    HELP = "help"


class InstallStrategy(Enum):
    """How a base treats other versions of a module on install."""

    DEFAULT = ""
    INSTALL_ONLY = "installOnly"
    UNINSTALL_THEN_INSTALL = "uninstallThenInstall"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Who a base says it is (baseMetadata of the heartbeat, body of queryBaseline)."""

    identity: str
    name: str = ""
    version: str = ""
    cluster_name: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One beat. port is 0 where none is told; -1 means that the base found no free port."""

    metadata: Metadata
    host_name: str = ""
    ip: str = ""
    port: int = 0
    state: BaseState = BaseState.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Metaspace:
    """JVM metaspace in bytes; max is -1 when the JVM has no limit."""

    used: int
    committed: int
    max: int


@dataclass(frozen=True, slots=True)
class Health:
    """A health answer; whatever the base left out is None, empty or UNSPECIFIED."""

    state: BaseState = BaseState.UNSPECIFIED
    metaspace: Metaspace | None = None
    java_version: str = ""


@dataclass(frozen=True, slots=True)
class Module:
    """One module as a base tells it. changed_at is epoch milliseconds of the base's clock, None when not told."""

    name: str
    version: str
    state: ModuleState
    changed_at: int | None = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A base's answer to a command. message and stack_trace are cut to a useful length."""

    code: ReplyCode
    client_code: ClientCode = ClientCode.UNSPECIFIED
    message: str = ""
    stack_trace: str = ""
    modules: tuple[Module, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchReply:
    """Answer to batchInstallBiz: the verdict over all, and one reply for each URL."""

    reply: Reply
    items: tuple[tuple[str, Reply], ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleOrder:
    """One module of a command to a base."""

    name: str
    version: str
    url: str = ""
    args: tuple[str, ...] = ()
    envs: tuple[tuple[str, str], ...] = ()
    strategy: InstallStrategy = InstallStrategy.DEFAULT


@dataclass(frozen=True, slots=True)
class BaselineModule:
    """One module that a starting base is told to install."""

    name: str
    version: str
    url: str
