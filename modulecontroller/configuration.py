"""What the programs would be started with here: every variable, its value and where that comes from.

Without names it is what module-controller would run: itself, the control plane, and the gateways that are enabled, with
what it sets for them. With names each program is taken by itself, as where they are started apart.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from controlplane.settings import ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from modulecontroller.settings import SUPERVISOR, QuickstartSettings, SupervisorSettings
from modulecontroller.supervisor import check, programs
from service.process import StartError
from service.settings import ConfigurationError, Settings, Variable, effective, misspelt, names, read

PROGRAMS: Mapping[str, type[Settings]] = {
    SUPERVISOR: SupervisorSettings,
    "controlplane": ControlPlaneSettings,
    "http-gateway": HttpGatewaySettings,
    "mqtt-gateway": MqttGatewaySettings,
}
"""Programs that read variables, and what they read."""
VARIABLES = names(QuickstartSettings).union({"MCTL_SERVER"}, *map(names, PROGRAMS.values()))
"""All variables of all programs; the one of mctl is an option, too."""

_OFF = frozenset({"", "0", "f", "false", "n", "no", "off"})

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class SurveyedProgram:
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
    """All programs looked at.

    given are the variables that are set and that they read, unread those that are set and that another of our programs
    reads; misspelt are messages about those that are nearly spelt like these.
    """

    programs: tuple[SurveyedProgram, ...]
    given: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    misspelt: tuple[str, ...] = ()

    @property
    def supervised(self) -> bool:
        """Whether the programs are those that module-controller runs."""
        return any(program.name == SUPERVISOR for program in self.programs)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong, each thing once, in words that name variable, value and fix."""
        # Programs may put the meaning of a variable into words of their own; what is wrong with it is the same.
        lines = {line.partition(" is: ")[0]: line for program in self.programs for line in program.wrong}
        return tuple(lines.values())

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong and does not keep the programs from starting."""
        return (*(line for program in self.programs for line in program.complaints), *self.misspelt)

    def of(self, cls: type[S]) -> S | None:
        """Return the settings of one class, None when that program is not run or its settings are wrong."""
        return next((program.settings for program in self.programs if isinstance(program.settings, cls)), None)

    def why_not(self, cls: type[Settings]) -> str:
        """Return why the settings of a class cannot be had."""
        name = next(name for name, known in PROGRAMS.items() if known is cls)
        runs = any(program.name == name for program in self.programs)
        return f"the settings of {name} are wrong" if runs else f"{name} is not run here"


def survey(wanted: Sequence[str] = ()) -> Configuration:
    """Read the settings of the programs; wrong ones are part of the result, not raised."""
    found = tuple(_alone(name, {}) for name in wanted) if wanted else tuple(_together())
    known = _known(program.name for program in found)
    given = sorted(name for name in VARIABLES - {"MCTL_SERVER"} if os.environ.get(name))
    return Configuration(
        found,
        given=tuple(name for name in given if name in known),
        unread=tuple(name for name in given if name not in known),
        misspelt=misspelt_elsewhere(program.name for program in found),
    )


def misspelt_elsewhere(running: Iterable[str]) -> tuple[str, ...]:
    """Return a message for each variable that is nearly spelt like one that only other programs than these read."""
    own = misspelt(_known(running), VARIABLES)
    return tuple(line for name, line in misspelt(VARIABLES).items() if name not in own)


def _known(running: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*(names(PROGRAMS[name]) for name in running))


def _alone(name: str, imposed: Mapping[str, str]) -> SurveyedProgram:
    try:
        settings = read(PROGRAMS[name], imposed, others=VARIABLES)
    except ConfigurationError as error:
        return SurveyedProgram(name, None, wrong=tuple(error.lines))
    return SurveyedProgram(name, settings, effective(settings, imposed), complaints=tuple(settings.complaints()))


def _together() -> Iterator[SurveyedProgram]:
    supervisor = _alone(SUPERVISOR, {})
    settings = supervisor.settings
    if not isinstance(settings, SupervisorSettings):
        # What it would set for its children is not known, but what is wrong with theirs is said in one go.
        switches: Any = {name: _on(name.upper()) for name in ("enable_http_tunnel", "enable_mqtt_tunnel")}
        children = programs(SupervisorSettings.model_construct(**switches), {})
        yield from (supervisor, *(_alone(child.name, {}) for child in children))
        return
    try:
        check(settings)
    except StartError as error:
        supervisor = replace(supervisor, wrong=(str(error),))
    yield from (supervisor, *(_alone(child.name, child.environ) for child in programs(settings, {})))


def _on(switch: str) -> bool:
    return os.environ.get(switch, "").strip().lower() not in _OFF


def as_json(configuration: Configuration) -> str:
    """Return one JSON object: programs with their variables, what is wrong, what nobody reads."""
    shown = {
        "programs": [
            {"program": program.name, "variables": [asdict(variable) for variable in program.variables]}
            for program in configuration.programs
        ],
        "wrong": configuration.wrong,
        "complaints": configuration.complaints,
        "unread": configuration.unread,
    }
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def as_text(configuration: Configuration) -> str:
    """Return a table for each program, and what is wrong below them."""
    rows = [variable for program in configuration.programs for variable in program.variables]
    name_width = max((len(row.name) for row in rows), default=0)
    value_width = max((len(row.value or "none") for row in rows), default=0)
    parts = {
        program.name: [
            f"{row.name:<{name_width}}  {row.value or 'none':<{value_width}}  {row.source}" for row in program.variables
        ]
        for program in configuration.programs
    }
    parts["set, but read by none of these programs:"] = [*configuration.unread]
    parts["wrong, though the start goes on:"] = [*configuration.complaints]
    parts["wrong, so that the start would be refused:"] = [*configuration.wrong]
    texts = ["\n  ".join((heading, *lines)) for heading, lines in parts.items() if lines]
    if not (configuration.wrong or configuration.complaints):
        texts.append("nothing is wrong")
    return "\n\n".join(texts) + "\n"
