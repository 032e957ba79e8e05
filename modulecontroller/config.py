"""module-controller config: the effective settings, for people or for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from modulecontroller.configuration import Configuration, Program


def as_text(configuration: Configuration) -> str:
    """Return a table for each program, and what is wrong below them."""
    return "\n".join(_lines(configuration)) + "\n"


def as_json(configuration: Configuration) -> str:
    """Return one JSON object: programs with their variables, what is wrong, what nobody reads.

    complaints are about what is wrong and does not stop the start.
    """
    programs = [
        {
            "program": program.name,
            "variables": [
                {
                    "name": variable.name,
                    "value": variable.value,
                    "source": variable.source.value,
                    "meaning": variable.meaning,
                }
                for variable in program.variables
            ],
        }
        for program in configuration.programs
    ]
    told = {
        "programs": programs,
        "wrong": list(configuration.wrong),
        "complaints": list(configuration.complaints),
        "unread": list(configuration.unread),
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _lines(configuration: Configuration) -> Iterator[str]:
    readable = [program for program in configuration.programs if program.variables]
    rows = [variable for program in readable for variable in program.variables]
    widths = (
        max((len(row.name) for row in rows), default=0),
        max((len(row.value or "none") for row in rows), default=0),
    )
    for program in readable:
        yield from _table(program, *widths)
    if configuration.unread:
        yield "set, but read by none of these programs:"
        yield from (f"  {name}" for name in configuration.unread)
        yield ""
    if configuration.complaints:
        yield "wrong, though the start goes on:"
        yield from (f"  {line}" for line in configuration.complaints)
        yield ""
    if configuration.wrong:
        yield "wrong, so that the start would be refused:"
        yield from (f"  {line}" for line in configuration.wrong)
    elif not configuration.complaints:
        yield "nothing is wrong"


def _table(program: Program, name_width: int, value_width: int) -> Iterator[str]:
    yield program.name
    for row in program.variables:
        yield f"  {row.name:<{name_width}}  {row.value or 'none':<{value_width}}  {row.source.value}"
    yield ""
