"""The ports that our programs listen on, as their settings have them."""

from collections.abc import Mapping

from annotated_types import Le

from modulecontroller.configuration import PROGRAMS

CONNECTED_TO = frozenset({"MQTT_PORT"})
"""Ports of other programs."""


def listening() -> Mapping[str, frozenset[str]]:
    """Return by program the variables of the ports that it listens on, or has its children listen on."""
    return {
        program: frozenset(
            str(field.validation_alias or name.upper())
            for name, field in settings.model_fields.items()
            if Le(65535) in field.metadata and name.endswith("_port")
        )
        - CONNECTED_TO
        for program, settings in PROGRAMS.items()
    }
