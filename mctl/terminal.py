"""Tables on a terminal: coloured, folded at its width. Imported only where there is one, for rich is slow to load."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import get_terminal_size
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {
    **dict.fromkeys(("Ready", "ACTIVATED", "activated", "yes", "created", "active"), "green"),
    **dict.fromkeys(("Unreachable", "Warning", "configured", "DEACTIVATED", "RESOLVED", "draining"), "yellow"),
    **dict.fromkeys(("Dead", "BROKEN", "broken", "no", "deleted", "gone"), "red"),
}


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO, *, show_header: bool) -> None:
    """Print rows in columns that fold rather than lose text."""
    table = Table(box=None, show_header=show_header, pad_edge=False, padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(file=stream, width=get_terminal_size().columns).print(table)
