"""What was measured, beside what was aimed at: as a table, and as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

WIDTH = 132


@dataclass(frozen=True)
class Figure:
    """One measured value. target is the largest value that is aimed at, None where there is none."""

    name: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How much of the target was used: at most 1 means that it was met."""
        return None if self.target is None or math.isnan(self.value) else self.value / self.target


@dataclass(frozen=True)
class Report:
    """A measurement: how it was made, where, and its figures."""

    scenario: str
    command: str
    machine: Mapping[str, str]
    figures: Sequence[Figure]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of all do not exceed; nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(name: str, seconds: Sequence[float], *, target: float | None = None, note: str = "") -> list[Figure]:
    """Return p50 and p99 in milliseconds; the target is one of p99, in milliseconds."""
    times = [1000 * second for second in seconds]
    return [
        Figure(f"{name} p50", percentile(times, 0.50), "ms", None, note),
        Figure(f"{name} p99", percentile(times, 0.99), "ms", target, note),
    ]


def table(report: Report) -> str:
    """Return the report for people."""
    console = Console(width=WIDTH, color_system=None, record=False, force_terminal=False)
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column(report.scenario, no_wrap=True)
    for heading in ("measured", "target", "ratio"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("unit", no_wrap=True)
    grid.add_column("note", overflow="fold")
    for figure in report.figures:
        ratio = figure.ratio
        grid.add_row(
            figure.name,
            number(figure.value),
            "" if figure.target is None else f"<= {number(figure.target)}",
            "" if ratio is None else f"{ratio:.2f}",
            figure.unit,
            figure.note,
        )
    with console.capture() as capture:
        console.print(grid)
    metrics = [f"{key}: {value}" for key, value in report.machine.items()]
    return "\n".join([capture.get().rstrip(), "", f"command: {report.command}", *metrics, ""])


def as_json(reports: Sequence[Report]) -> str:
    """Return reports for programs; a value that could not be measured is null."""
    metrics = [
        {
            "scenario": report.scenario,
            "command": report.command,
            "machine": dict(report.machine),
            "figures": [
                {
                    "name": figure.name,
                    "value": None if math.isnan(figure.value) else figure.value,
                    "unit": figure.unit,
                    "target": figure.target,
                    "ratio": figure.ratio,
                    "note": figure.note,
                }
                for figure in report.figures
            ],
        }
        for report in reports
    ]
    return json.dumps(metrics, indent=2)


def number(value: float) -> str:
    """Return a value with about three digits that count."""
    if math.isnan(value):
        return "-"
    if value and abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
