"""Options of the simulated-base program: fields of Run, Profile and Faults that say what they mean, and the broker."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mqttclient.settings import BrokerSettings
from service.logs import LogFormat, LogLevel
from service.settings import ConfigurationError, read
from service.wording import plain
from simulatedbase import admin
from simulatedbase.profile import ALL, COMMANDS, Faults, Port, Profile, Seconds, Tunnel

M = TypeVar("M", bound=BaseModel)


class Run(BaseModel):
    """What concerns the program, not a base."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    """number of bases, as IDENTITY-1 to IDENTITY-N"""
    ramp: Seconds = 0.0
    """start them evenly over so many seconds"""
    admin_port: Port | None = None
    """control the bases over HTTP on this loopback port; 0 means any free one"""
    log_format: LogFormat = LogFormat.CONSOLE
    """form of the log on standard error"""
    log_level: LogLevel = LogLevel.INFO
    """least severity that is logged"""


_BROKER: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "MQTT_BROKER": ("--broker", {"metavar": "HOST"}),
    "MQTT_PORT": ("--mqtt-port", {"metavar": "N"}),
    "MQTT_USERNAME": ("--mqtt-username", {"metavar": "NAME"}),
    "MQTT_PASSWORD": ("--mqtt-password", {"metavar": "TEXT"}),
    "MQTT_CLIENT_PREFIX": ("--mqtt-prefix", {"metavar": "TEXT"}),
    "MQTT_CA_PATH": ("--mqtt-ca", {"metavar": "FILE"}),
    "MQTT_CLIENT_CRT_PATH": ("--mqtt-cert", {"metavar": "FILE"}),
    "MQTT_CLIENT_KEY_PATH": ("--mqtt-key", {"metavar": "FILE"}),
    "MQTT_TLS_INSECURE": ("--mqtt-tls-insecure", {"action": "store_const", "const": "true"}),
}
"""Variables of the MQTT gateway, read here too, and the options that go before them."""


_DEFAULTS = {"identity": "base", "port": None}
"""Where the program has others than Profile."""
_SHOWN = {
    **dict.fromkeys(("port", "admin_port"), "N"),
    **dict.fromkeys(("fail_install", "fail_uninstall"), "NAME[:VERSION]"),
    **dict.fromkeys(("hang", "drop_replies"), "COMMAND"),
    "heartbeat_interval": "S",
    "slow": "COMMAND=S",
}
"""What stands for values in help, where their type does not say."""


class Options:
    """What the command line says, or the end of the program with what is wrong with it."""

    def __init__(self, argv: Sequence[str] | None) -> None:
        self._parser = _parser()
        self._given = vars(self._parser.parse_args(argv))
        self.run = self._read(Run)
        self.profile = self._read(Profile)
        """The base, or the first of several."""
        if self.profile.tunnel is not Tunnel.HTTP:
            self.profile = self.profile.model_copy(update={"broker": self._broker()})
        self.faults()

    def faults(self) -> Faults:
        """Return a fresh set of switches."""
        return self._read(Faults)

    def _read(self, kind: type[M]) -> M:
        try:
            return kind.model_validate({name: self._given[name] for name in kind.model_fields if name in self._given})
        except ValidationError as error:
            wrong = error.errors()[0]
            option = str(wrong["loc"][0]).replace("_", "-")
            self._parser.error(f"--{option} {wrong['input']}: {plain(wrong['msg'])}")

    def _broker(self) -> BrokerSettings:
        identity = self.profile.identity
        if not identity or any(character in identity for character in "/+#"):
            self._parser.error(f"--identity {identity}: topics cannot hold it; leave out '/', '+' and '#'")
        try:
            return read(BrokerSettings, {name: self._given[name] for name in _BROKER if name in self._given})
        except ConfigurationError as error:
            text = re.sub("|".join(_BROKER), lambda found: f"{_BROKER[found[0]][0]} ({found[0]})", str(error))
            self._parser.error(f"--tunnel {self.profile.tunnel.value}: {text}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simulated-base",
        description="A Koupleless base that speaks the arklet protocol as a Java one does, without a JVM.",
        epilog=f"control at run time (--admin-port):\n{admin.HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.set_defaults(**_DEFAULTS, token=os.environ.get("HTTP_TUNNEL_TOKEN", ""))
    _add(parser, Run)
    _add(parser.add_argument_group("the base"), Profile)
    broker = parser.add_argument_group(
        "the broker", "with --tunnel mqtt or both; a password is better in MQTT_PASSWORD"
    )
    for setting in BrokerSettings.model_fields.values():
        variable = str(setting.validation_alias)
        option, more = _BROKER[variable]
        known = f" or {setting.default}" if isinstance(setting.default, str | int) and setting.default else ""
        broker.add_argument(option, dest=variable, help=f"{setting.description} (default: {variable}{known})", **more)
    several = "may be given several times; commands are " + ", ".join(COMMANDS)
    _add(parser.add_argument_group("what fails", several), Faults)
    return parser


def _add(group: argparse._ActionsContainer, kind: type[BaseModel]) -> None:
    """Add an option for each field that says what it means."""
    for name, item in kind.model_fields.items():
        if item.description is None:
            continue
        default = _DEFAULTS.get(name, item.default)
        more: dict[str, Any] = {"metavar": _SHOWN.get(name, {int: "N", float: "S"}.get(type(default)))}
        if isinstance(default, bool):
            more = {"action": "store_true"}
        elif isinstance(default, Enum):
            more = {"metavar": f"{{{','.join(member.value for member in type(default))}}}"}
            default = default.value
        elif isinstance(default, set | dict):
            more |= {"action": "append"}
            if name.startswith("fail_"):
                more |= {"nargs": "?", "const": ALL}
        text = f"{item.description} (default: {default})" if default else item.description
        group.add_argument(f"--{name.replace('_', '-')}", help=text, **more)
