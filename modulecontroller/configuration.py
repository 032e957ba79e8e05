"""What the programs would be started with here: every variable, its value and where that comes from.

Without names it is what module-controller would run: itself, the control plane, and
the gateways that are enabled, with what it sets for them. With names each program
is taken by itself, as where they are started apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from controlplane.settings import ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from modulecontroller.settings import SupervisorSettings
from modulecontroller.supervisor import check, programs
from service.process import StartError
from service.settings import ALL_VARIABLES, ConfigurationError, Settings, Variable, effective, names, read

SUPERVISOR = "module-controller"

PROGRAMS: Mapping[str, type[Settings]] = {
    SUPERVISOR: SupervisorSettings,
    "controlplane": ControlPlaneSettings,
    "http-gateway": HttpGatewaySettings,
    "mqtt-gateway": MqttGatewaySettings,
}
"""Programs that read variables, and what they read."""

_SWITCHES = {"http-gateway": "ENABLE_HTTP_TUNNEL", "mqtt-gateway": "ENABLE_MQTT_TUNNEL"}
_OFF = frozenset({"", "0", "f", "false", "n", "no", "off"})

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Program:
    """A program and what it would be started with; settings are None where something is wrong with them.

    complaints are about what is wrong and does not keep the program from starting.
    """

    name: str
    settings: Settings | None
    variables: tuple[Variable, ...] = ()
    wrong: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """All programs looked at; unread are variables of ours that are set and that none of these programs reads."""

    programs: tuple[Program, ...]
    unread: tuple[str, ...]

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong, each thing once, in words that name variable, value and fix."""
        # Programs may put the meaning of a variable into words of their own; what is wrong with it is the same.
        told = {line.partition(" is: ")[0]: line for program in self.programs for line in program.wrong}
        return tuple(told.values())

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong and does not keep the programs from starting."""
        return tuple(line for program in self.programs for line in program.complaints)

    def of(self, cls: type[S]) -> S | None:
        """Return the settings of one class, None when that program is not run or its settings are wrong."""
        found = [program.settings for program in self.programs if type(program.settings) is cls]
        return found[0] if found and isinstance(found[0], cls) else None

    def why_not(self, name: str) -> str:
        """Return why a program's settings cannot be had."""
        if any(program.name == name for program in self.programs):
            return f"the settings of {name} are wrong"
        return f"{name} is not run here"


def survey(wanted: Sequence[str] = ()) -> Configuration:
    """Read the settings of the programs; wrong ones are told, not raised."""
    found = tuple(_alone(name) for name in wanted) if wanted else tuple(_together())
    known = {name for program in found for name in names(PROGRAMS[program.name])}
    unread = sorted(name for name in ALL_VARIABLES - known - {"MCTL_SERVER"} if os.environ.get(name))
    return Configuration(found, tuple(unread))


def _alone(name: str, imposed: Mapping[str, str] | None = None) -> Program:
    told = imposed or {}
    try:
        settings = read(PROGRAMS[name], told)
    except ConfigurationError as error:
        return Program(name, None, wrong=tuple(error.lines))
    return Program(name, settings, effective(settings, told), complaints=tuple(settings.complaints()))


def _together() -> Iterator[Program]:
    supervisor = _alone(SUPERVISOR)
    if not isinstance(supervisor.settings, SupervisorSettings):
        # What it would tell its children is not known, but what is wrong with theirs is told in one go.
        yield supervisor
        yield from (_alone(name) for name in _enabled_by_environment())
        return
    try:
        check(supervisor.settings)
    except StartError as error:
        yield Program(SUPERVISOR, supervisor.settings, supervisor.variables, (str(error),))
    else:
        yield supervisor
    for child in programs(supervisor.settings, {}):
        yield _alone(child.name, child.environ)


def _enabled_by_environment() -> Iterator[str]:
    yield "controlplane"
    for name, switch in _SWITCHES.items():
        if os.environ.get(switch, "").strip().lower() not in _OFF:
            yield name
