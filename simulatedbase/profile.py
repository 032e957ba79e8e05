"""What a simulated base is, and the switches that make it fail. Fields with a docstring are options of the program."""

import asyncio
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateways.arklet.fields import Json
from gateways.arklet.names import parse_env
from mqttclient.settings import BrokerSettings
from simulatedbase.java import Jar

ALL = "*"
"""In a switch: every module, or every command."""

COMMANDS: Mapping[str, str] = {
    "help": "list all supported commands",
    "installBiz": "install one ark biz",
    "batchInstallBiz": "install one ark biz",
    "uninstallBiz": "uninstall one ark biz",
    "switchBiz": "switch one ark biz",
    "queryAllBiz": "query all ark biz(including master biz)",
    "health": "get all health info",
    "queryBizOps": "query ark biz ops",
}
"""Every command, with what help says of it."""
QUESTIONS = frozenset({"health", "queryAllBiz"})
"""Asked all the time, over both tunnels."""

ACTIVATED = "activated"
DEACTIVATED = "DEACTIVATED"
"""State in a heartbeat; never sent by a Java base, which leaves in silence; in upper case by tools that do send it."""


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
    """Heartbeats over HTTP come every 120 s and do not say which version the base is; no batchInstallBiz."""
    V1_4_2 = "1.4.2"


class Tunnel(Enum):
    """How a base and its controller reach each other."""

    HTTP = "http"
    MQTT = "mqtt"
    """Without the command server that a Java base has as well, as if behind NAT."""
    BOTH = "both"


def _controller(text: str) -> str:
    if not text:
        return text
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{text!r} is not a URL like http://127.0.0.1:7777")
    if url.port == 0:
        raise ValueError(f"{text!r} has port 0")
    if not text.isascii() or any(character.isspace() for character in text):
        raise ValueError(f"{text!r} has characters that do not belong in a URL")
    return text.rstrip("/")


def _command(text: str) -> str:
    if text != ALL and text not in COMMANDS:
        raise ValueError(f"not a command: {', '.join(COMMANDS)}, or {ALL} for all")
    return text


def _delays(value: Any) -> Any:
    """Return what a list of COMMAND=S says."""
    if not isinstance(value, list):
        return value
    if wrong := [text for text in value if "=" not in text]:
        raise ValueError(f"{wrong[0]} is not of the form COMMAND=S")
    return dict(text.split("=", 1) for text in value)


Port = Annotated[int, Field(ge=0, le=65535)]
Bytes = Annotated[int, Field(ge=0, le=2**62)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Command = Annotated[str, AfterValidator(_command)]


class Profile(BaseModel):
    """The unchanging part of a simulated base. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)

    identity: str = "base-1"
    """identity; with --count the common part of all"""
    name: str = "simulated-base"
    """name of the base application"""
    version: str = "1.0.0"
    """version of the base application"""
    cluster_name: str = "default"
    """cluster of the base"""
    controller: Annotated[str, AfterValidator(_controller)] = ""
    """where heartbeats over HTTP go, for example http://127.0.0.1:7777; none are sent without it"""
    token: Annotated[str, Field(repr=False)] = ""
    """token for the controller, a part of the URL; better in HTTP_TUNNEL_TOKEN"""
    tunnel: Tunnel = Tunnel.HTTP
    """how the controller is reached; mqtt opens no port for commands"""
    port: Port | None = 0
    """port for commands, counting up with --count; 0 any free one; without it the first free of 1238 to 1337"""
    listen: str = "127.0.0.1"
    """address that is bound"""
    ip: str = "127.0.0.1"
    """address that heartbeats report"""
    host_name: str = ""
    """host name that heartbeats report; the identity without it"""
    java_version: str = "1.8.0_402"
    """Java version that health reports"""
    env: Annotated[str, AfterValidator(parse_env)] = "default"
    """environment, part of the topics over MQTT"""
    runtime: RuntimeVersion = RuntimeVersion.V1_4_2
    """version of the module runtime; 1.3.3 knows no batchInstallBiz"""
    heartbeat_interval: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """seconds between heartbeats (default: 12 over HTTP, 120 with runtime 1.3.3, and 10 over MQTT)"""
    heartbeats_survive: bool = False
    """heartbeats over MQTT go on after an outage"""
    reconnect_longest: Seconds = 128.0
    """longest time between attempts to reach the broker again, in seconds; the first comes after one second"""
    server_delay: Seconds = 0.0
    """seconds from the first heartbeat until the port for commands listens"""
    install_time: Seconds = 0.0
    """seconds that a module takes to start"""
    multi_version: MultiVersion = MultiVersion.DEFAULT
    """second version of a module: starts deactivated, serves beside the first, or takes over from it"""
    broken_stays: bool = False
    """a module that did not start or stop stays listed as broken"""
    shared_paths: bool = False
    """versions of a module have one web context path: a second one does not start beside the first"""
    metaspace_used: Bytes = 65_585_152
    """bytes of metaspace of the base itself"""
    metaspace_max: Annotated[int, Field(ge=-1, le=2**62)] = 268_435_456
    """limit of the metaspace in bytes, -1 for none; installations beyond it fail"""
    metaspace_per_module: Bytes = 1_843_200
    """bytes of metaspace of each module"""
    clock_skew: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """seconds by which the clock of the base is fast, or slow below 0"""

    # Needed unless the tunnel is HTTP.
    broker: BrokerSettings | None = None
    # What is behind URLs, where their fragments do not say.
    jars: Mapping[str, Jar] = {}
    # Bounds how many bases of a fleet, which share it, connect to the broker at a time: each needs a thread for it.
    connecting: asyncio.Semaphore = Field(default_factory=lambda: asyncio.Semaphore(32), repr=False)

    @property
    def old(self) -> bool:
        """Whether the runtime has the habits of 1.3.3."""
        return self.runtime is RuntimeVersion.V1_3_3

    @property
    def endpoint(self) -> str:
        """URL before the names of what is posted, with the token; empty when nothing is."""
        with_token = self.controller and self.token
        return f"{self.controller}/t/{quote(self.token, safe='')}" if with_token else self.controller

    @property
    def http_interval(self) -> float:
        """Seconds between heartbeats over HTTP."""
        return self.heartbeat_interval or (120.0 if self.old else 12.0)

    @property
    def mqtt_interval(self) -> float:
        """Seconds between heartbeats over MQTT."""
        return self.heartbeat_interval or 10.0

    def metadata(self) -> Json:
        """Return who the base is."""
        return {
            "clusterName": self.cluster_name,
            "identity": self.identity,
            "name": self.name,
            "version": self.version,
        }

    def heartbeat(self, port: int, state: str = ACTIVATED) -> Json:
        """Return what a heartbeat says; port is 0 over MQTT."""
        base = self.metadata()
        if port and self.old:
            del base["version"]
        return {
            "baseMetadata": base,
            "localHostName": self.host_name or self.identity,
            "localIP": self.ip,
            "port": port,
            "state": state,
        }


class Faults(BaseModel):
    """Switches that tests turn while the base runs.

    Modules are NAME, NAME:VERSION or ALL, commands named as on the wire, or ALL.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    fail_install: set[str] = set()
    """the start-up of this module throws; of every one without a name"""
    fail_uninstall: set[str] = set()
    """the stop of this module throws, and it goes unless broken ones stay; of every one without a name"""
    hang: set[Command] = set()
    """accept the command and never answer"""
    slow: Annotated[dict[Command, Seconds], BeforeValidator(_delays)] = {}
    """delay the command by so many seconds"""
    drop_replies: set[Command] = set()
    """carry the command out, then give no answer"""
    mute: bool = False
    """send no heartbeats"""

    def delay(self, command: str) -> float:
        """Return by how many seconds a command is delayed."""
        return self.slow.get(command, self.slow.get(ALL, 0.0))

    def clear(self) -> None:
        """Switch every fault off."""
        for name, off in Faults():
            setattr(self, name, off)


def hit(switch: set[str], name: str, version: str = "") -> bool:
    """Return whether a switch is set for a command, or for a version of a module."""
    return not switch.isdisjoint((ALL, name, f"{name}:{version}"))
