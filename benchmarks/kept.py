"""Reports that were kept as JSON, as a table in Markdown for docs/benchmarks.md."""

import json
import math
from collections.abc import Sequence

from benchmarks.figures import Figure, Report, number

HEAD = ("| command | load | loop | figure | measured | target | ratio |", "|---|---|---|---|---|---|---|")
_CHANGING = ("load before", "loop of Python")
"""What each command has a value of its own of."""


def read(text: str) -> list[Report]:
    """Return the reports of a JSON document that this program printed; raises ValueError where it is none."""
    found = json.loads(text)
    try:
        if not isinstance(found, list):
            raise TypeError("it is no list")
        return [
            Report(
                each["scenario"],
                each["command"],
                each["machine"],
                [_figure(**figure) for figure in each["figures"]],
                each["failed"],
            )
            for each in found
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no reports of this program: {type(error).__name__} {error}") from error


def markdown(reports: Sequence[Report]) -> str:
    """Return what the reports were made on, and each figure that has a target; bold is beyond the target."""
    said = dict.fromkeys(
        "; ".join(f"{key} {value}" for key, value in report.machine.items() if key not in _CHANGING)
        for report in reports
        if report.machine
    )
    lines = [f"{text}." for text in said]
    rows = [row for report in reports for row in _rows(report)]
    return "\n".join([*lines, "", *HEAD, *rows, ""])


def _rows(report: Report) -> list[str]:
    command = f"`{report.command.removeprefix('python -m benchmarks ')}`"
    load, loop = (report.machine.get(key, "").removesuffix(" (1 min)") for key in _CHANGING)
    if report.failed:
        return [f"| {command} | {load} | {loop} | not measured: {report.failed} | | | |"]
    rows: list[str] = []
    for figure in report.figures:
        if figure.target is None:
            continue
        measured, ratio = f"{number(figure.value)} {figure.unit}".removesuffix(" 1"), figure.ratio
        if figure.missed:
            measured = f"**{measured}**"
        # What all rows of a command share stands in the first.
        shared = f"| {command} | {load} | {loop} |" if not rows else "| | | |"
        rows.append(
            f"{shared} {figure.name.strip()} | {measured} | {figure.aim} | {'' if ratio is None else f'{ratio:.2f}'} |"
        )
    return rows


def _figure(
    name: str, value: float | None, unit: str, target: float | None, ratio: float | None, note: str, at_least: bool
) -> Figure:
    del ratio  # follows from the others
    return Figure(name, math.nan if value is None else value, unit, target, note, at_least)
