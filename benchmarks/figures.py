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
    """One measured value.

    target is the largest value that is good enough, or the smallest where at_least says so; None where there is none.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""
    at_least: bool = False

    @property
    def ratio(self) -> float | None:
        """How much of the target was used, or lacks: at most 1 means that it was met. A target of 0 has none."""
        if not self.target or math.isnan(self.value):
            return None
        if self.at_least:
            return self.target / self.value if self.value else None
        return self.value / self.target

    @property
    def missed(self) -> bool:
        """Whether the target was not met."""
        if self.target is None:
            return False
        return self.value < self.target if self.at_least else self.value > self.target

    @property
    def aim(self) -> str:
        """The target for people; empty where there is none."""
        if self.target is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {number(self.target)}"


@dataclass(frozen=True)
class Report:
    """A measurement: how it was made, where, and its figures; failed says why there are none, if it failed."""

    scenario: str
    command: str
    machine: Mapping[str, str]
    figures: Sequence[Figure]
    failed: str = ""


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
            figure.aim,
            "" if ratio is None else f"{ratio:.2f}",
            figure.unit,
            figure.note,
        )
    with console.capture() as capture:
        console.print(grid)
    metrics = [f"{key}: {value}" for key, value in report.machine.items()]
    failed = [f"not measured: {report.failed}"] if report.failed else []
    return "\n".join([capture.get().rstrip(), *failed, "", f"command: {report.command}", *metrics, ""])


def as_json(reports: Sequence[Report]) -> str:
    """Return reports for programs; a value that could not be measured is null."""
    found = [
        {
            "scenario": report.scenario,
            "command": report.command,
            "machine": dict(report.machine),
            "failed": report.failed,
            "figures": [
                {
                    "name": figure.name,
                    "value": figure.value if math.isfinite(figure.value) else None,
                    "unit": figure.unit,
                    "target": figure.target,
                    "at_least": figure.at_least,
                    "ratio": figure.ratio,
                    "note": figure.note,
                }
                for figure in report.figures
            ],
        }
        for report in reports
    ]
    return json.dumps(found, indent=2)


def number(value: float) -> str:
    """Return a value with about three digits that count."""
    if math.isnan(value):
        return "-"
    if value and abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
