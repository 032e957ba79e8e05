"""Printing of items: table, wide, json, yaml or name; all at once, or change by change.

A terminal gets colours and cells that fold at its width. Anything else gets plain lines, never cut or wrapped.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from shutil import get_terminal_size
from typing import Generic

import typer
import yaml
from rich.cells import cell_len

from mctl.kinds import ItemChange, ItemKind, M
from service.wording import clean, unsafe


class Format(Enum):
    """How items are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


_GAP = 2
_NON_ASCII = re.compile(r"[^ -~\n]")
_STYLES = {
    **dict.fromkeys(("Ready", "ACTIVATED", "activated", "yes", "created", "active"), "green"),
    **dict.fromkeys(("Unreachable", "Warning", "configured", "DEACTIVATED", "RESOLVED", "draining"), "yellow"),
    **dict.fromkeys(("Dead", "BROKEN", "broken", "no", "deleted", "gone"), "red"),
}


class Printer(Generic[M]):
    """Prints items of one kind on standard output."""

    def __init__(self, kind: ItemKind[M], output: Format, *, headers: bool = True) -> None:
        self.kind = kind
        self.format = output
        self._show_headers = headers
        self._headers = kind.headers(wide=output is Format.WIDE)
        self._widths: list[int] = []

    def print_all(self, items: Iterable[M]) -> None:
        """Print a complete answer."""
        items = list(items)
        match self.format:
            case Format.JSON:
                typer.echo(to_json({"items": [self.kind.document(item) for item in items]}, indent=2))
            case Format.YAML:
                typer.echo(to_yaml({"items": [self.kind.document(item) for item in items]}), nl=False)
            case Format.NAME:
                typer.echo("".join(f"{clean(self.kind.title(item))}\n" for item in items), nl=False)
            case Format.TABLE | Format.WIDE:
                self._table([self._cells(item) for item in items])

    def print_changes(self, changes: Iterable[ItemChange[M]]) -> None:
        """Print each change at once: a row, or an object with type and object."""
        for change in changes:
            document = {"type": change.type, "object": self.kind.document(change.item)}
            match self.format:
                case Format.JSON:
                    typer.echo(to_json(document))
                case Format.YAML:
                    typer.echo("---\n" + to_yaml(document), nl=False)
                case Format.NAME:
                    typer.echo(clean(self.kind.title(change.item)))
                case Format.TABLE | Format.WIDE:
                    self._row([change.type, *self._cells(change.item)])

    def _cells(self, item: M) -> list[str]:
        return [self.kind.cell(item, header) for header in self._headers]

    def _table(self, rows: Sequence[Sequence[str]]) -> None:
        if not rows:
            typer.echo(f"no {self.kind.name}s found", err=True)
        elif sys.stdout.isatty():
            self._terminal(rows)
        else:
            typer.echo("\n".join(aligned([self._headers, *rows] if self._show_headers else rows)))

    def _terminal(self, rows: Sequence[Sequence[str]]) -> None:
        # Only imported where there is a terminal, for these are slow to load.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=self._show_headers, pad_edge=False, padding=(0, 2, 0, 0))
        for header in self._headers:
            table.add_column(header, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        Console(file=sys.stdout, width=get_terminal_size().columns).print(table)

    def _row(self, row: Sequence[str]) -> None:
        # Widths grow with what was seen: a row cannot wait for the rows after it.
        headers = ["CHANGE", *self._headers]
        lines = [row] if self._widths or not self._show_headers else [headers, row]
        seen = self._widths or map(cell_len, headers)
        self._widths = [max(width, cell_len(cell)) for width, cell in zip(seen, row, strict=True)]
        typer.echo("\n".join(_aligned(line, self._widths) for line in lines))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of one width, never cut."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return [_aligned(row, widths) for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - cell_len(cell) + _GAP) for cell, width in zip(row, widths, strict=True))
    return "".join(padded).rstrip()


def to_json(value: object, indent: int | None = None) -> str:
    """Return JSON in which characters that a terminal might act on are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _NON_ASCII.sub(lambda c: json.dumps(c[0])[1:-1] if unsafe(c[0]) else c[0], text)


def to_yaml(value: object) -> str:
    """Return YAML in which characters that a terminal might act on are escaped."""
    plain = not any(map(unsafe, set(json.dumps(value, ensure_ascii=False))))
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=plain, width=sys.maxsize)
