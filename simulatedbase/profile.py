"""What a simulated base is, and the switches that make it fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from simulatedbase.artifact import Jar
from simulatedbase.mqtt.broker import Broker

ALL = "*"
"""In a switch: every module, or every command."""


class MultiVersion(Enum):
    """What becomes of two versions of one module; set by JVM properties of a real base."""

    DEFAULT = "default"
    """The new version starts deactivated, the old one goes on serving."""
    BOTH = "both"
    """Both serve."""
    SWITCH = "switch"
    """The new version serves, the old one is deactivated."""


class RuntimeVersion(Enum):
    """Version of the module runtime in a base: what differs on the wire."""

    V1_3_3 = "1.3.3"
    """Beats every 120 s over HTTP and does not say there which version the base is; knows no batches."""
    V1_4_2 = "1.4.2"

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between heartbeats over HTTP."""
        return 12.0 if self is RuntimeVersion.V1_4_2 else 120.0

    @property
    def batches(self) -> bool:
        """It knows batchInstallBiz, as from 1.4.1 on."""
        return self is RuntimeVersion.V1_4_2

    @property
    def tells_version(self) -> bool:
        """Heartbeats over HTTP say which version the base is."""
        return self is RuntimeVersion.V1_4_2


class Tunnel(Enum):
    """How a base and its controller reach each other."""

    HTTP = "http"
    MQTT = "mqtt"
    """Without the command server that a Java base has as well, as if behind NAT."""
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Profile:
    """The unchanging part of a simulated base.

    port 0 means any free one, None the first free one of 1238 to 1337, as a Java
    base does. ip is what heartbeats report, listen the address that is bound.
    Times are in seconds, sizes in bytes.
    """

    identity: str = "base-1"
    name: str = "simulated-base"
    version: str = "1.0.0"
    cluster_name: str = "default"
    controller: str = ""
    """URL of the controller without a trailing slash; empty means no heartbeats."""
    port: int | None = 0
    ip: str = "127.0.0.1"
    listen: str = "127.0.0.1"
    host_name: str = ""
    runtime: RuntimeVersion = RuntimeVersion.V1_4_2
    heartbeat_interval: float = 12.0
    """Over HTTP."""
    server_delay: float = 0.0
    """From the first heartbeat until the server listens."""
    install_time: float = 0.0
    multi_version: MultiVersion = MultiVersion.DEFAULT
    broken_stays: bool = False
    """A module that did not start, or stop, stays listed as broken (auto uninstall switched off)."""
    shared_paths: bool = False
    """All versions of a module have one web context path, so that a second one cannot be started beside the first."""
    jars: Mapping[str, Jar] = field(default_factory=lambda: MappingProxyType({}))
    """What is behind URLs, where their fragments do not tell."""
    java_version: str = "1.8.0_402"
    metaspace_used: int = 65_585_152
    """Used by the base itself, before modules."""
    metaspace_max: int = 268_435_456
    """-1 means that the JVM has no limit."""
    metaspace_per_module: int = 1_843_200
    tunnel: Tunnel = Tunnel.HTTP
    broker: Broker | None = None
    """Needed unless the tunnel is HTTP."""
    env: str = "default"
    """Environment, in topics in lower case; HTTP does not tell it."""
    mqtt_heartbeat_interval: float = 10.0
    heartbeats_survive: bool = False
    """Over MQTT heartbeats go on after one that failed."""
    reconnect_longest: float = 128.0
    """Longest time between two attempts to reach the broker again."""
    clock_skew: float = 0.0
    """By how much the clock of the base is fast."""
    commands_kept: int = 256
    """How many received commands are remembered."""
    history_kept: int = 1024
    """How many changes of its modules are remembered."""


@dataclass(slots=True)
class Faults:
    """Switches that tests turn while the base runs. Commands are named as on the wire, ALL means every one."""

    fail_install: set[str] = field(default_factory=set)
    """Modules (NAME, NAME:VERSION or ALL) whose start-up throws."""
    fail_uninstall: set[str] = field(default_factory=set)
    """Modules, named alike, whose stop throws; they go all the same unless broken modules stay."""
    hang: set[str] = field(default_factory=set)
    """Commands that are accepted, not carried out and never answered."""
    slow: dict[str, float] = field(default_factory=dict)
    """Commands that are carried out only after so many seconds."""
    drop_replies: set[str] = field(default_factory=set)
    """Commands that are carried out, with the connection closed instead of an answer."""
    mute: bool = False
    """No heartbeats."""

    def fails_install(self, name: str, version: str) -> bool:
        """Tell whether the module's start-up throws."""
        return not self.fail_install.isdisjoint((ALL, name, f"{name}:{version}"))

    def fails_uninstall(self, name: str, version: str) -> bool:
        """Tell whether the module's stop throws."""
        return not self.fail_uninstall.isdisjoint((ALL, name, f"{name}:{version}"))

    def hangs(self, command: str) -> bool:
        """Tell whether the command is never answered."""
        return not self.hang.isdisjoint((ALL, command))

    def drops_reply(self, command: str) -> bool:
        """Tell whether the command's answer is dropped."""
        return not self.drop_replies.isdisjoint((ALL, command))

    def delay(self, command: str) -> float:
        """Return by how many seconds the command is delayed."""
        return self.slow.get(command, self.slow.get(ALL, 0.0))

    def clear(self) -> None:
        """Switch every fault off."""
        self.fail_install.clear()
        self.fail_uninstall.clear()
        self.hang.clear()
        self.slow.clear()
        self.drop_replies.clear()
        self.mute = False
