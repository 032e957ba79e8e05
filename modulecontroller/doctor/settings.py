"""Whether the settings can be used at all, and whether all that is set is read."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from modulecontroller.configuration import SUPERVISOR, Configuration
from modulecontroller.doctor.findings import Finding, error, ok, some, warning
from service.settings import Source

ABOUT = "settings"


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield what is wrong with the settings."""
    for line in configuration.wrong:
        yield error(ABOUT, line, "correct the variable; module-controller config shows all of them")
    for line in configuration.complaints:
        yield warning(ABOUT, line, "correct the variable, or unset it; all else works without it")
    names = [program.name for program in configuration.programs]
    if not configuration.wrong:
        given = {
            variable.name
            for program in configuration.programs
            for variable in program.variables
            if variable.source is Source.ENVIRONMENT
        }
        yield ok(ABOUT, f"{len(given)} variables are set for {', '.join(names)}; the others have their defaults")
    env = os.environ.get("ENV", "")
    if env != env.lower():
        yield ok(ABOUT, f"ENV={env} is used as {env.lower()} in topics and Node names, as bases do")
    if configuration.unread and SUPERVISOR in names:
        yield warning(
            ABOUT,
            f"set, but read by none of {', '.join(names)}: {some(list(configuration.unread))}",
            "enable the part that they are meant for, or unset them",
        )
