"""Printing of records: table, wide, json, yaml or name; all at once, or change by change.

A terminal gets colours and cells that fold at its width. Anything else gets plain
lines, never cut or wrapped.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Generic, TextIO

import yaml
from rich.cells import cell_len

from mctl.columns import columns
from mctl.records import Change, ChangeType, R
from mctl.text import clean, unsafe


class Format(Enum):
    """How records are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


_GAP = 2
_NON_ASCII = re.compile(r"[^ -~\n]")


class Printer(Generic[R]):
    """Prints records of one kind on a stream, standard output when not given."""

    def __init__(self, record: type[R], output: Format, *, headers: bool = True, stream: TextIO | None = None) -> None:
        self._format = output
        self._headers = headers
        self._stream = sys.stdout if stream is None else stream
        self._columns = columns(record, wide=output is Format.WIDE)
        self.kind = record.kind
        self._widths: list[int] = []

    def print_all(self, records: Iterable[R]) -> None:
        """Print a complete answer."""
        records = list(records)
        match self._format:
            case Format.JSON:
                self._line(to_json({"items": [r.to_json() for r in records]}, indent=2))
            case Format.YAML:
                self._line(to_yaml({"items": [r.to_json() for r in records]}), end="")
            case Format.NAME:
                for record in records:
                    self._line(clean(record.title))
            case Format.TABLE | Format.WIDE:
                self._table([[c.cell(r) for c in self._columns] for r in records])
        self._stream.flush()

    def print_change(self, change: Change[R]) -> None:
        """Print one change at once: a row, or an object with type and object."""
        match self._format:
            case Format.JSON:
                self._line(to_json({"type": change.type.value, "object": change.item.to_json()}))
            case Format.YAML:
                self._line(to_yaml({"type": change.type.value, "object": change.item.to_json()}), start="---\n", end="")
            case Format.NAME:
                self._line(clean(change.item.title))
            case Format.TABLE | Format.WIDE:
                self._row(change.type, [c.cell(change.item) for c in self._columns])
        self._stream.flush()

    def _table(self, rows: Sequence[Sequence[str]]) -> None:
        if not rows:
            sys.stderr.write(f"no {self.kind}s found\n")
            return
        headers = [c.header for c in self._columns]
        if self._stream.isatty():
            from mctl.terminal import print_table

            print_table(headers, rows, self._stream, show_header=self._headers)
            return
        for line in aligned([headers, *rows] if self._headers else rows):
            self._line(line)

    def _row(self, change: ChangeType, cells: Sequence[str]) -> None:
        # Widths grow with what was seen: a row cannot wait for the rows after it.
        row = [change.value, *cells]
        headers = ["CHANGE", *(c.header for c in self._columns)]
        first = not self._widths
        seen = self._widths or [cell_len(h) for h in headers]
        self._widths = [max(width, cell_len(cell)) for width, cell in zip(seen, row, strict=True)]
        if first and self._headers:
            self._line(_aligned(headers, self._widths))
        self._line(_aligned(row, self._widths))

    def _line(self, text: str, *, start: str = "", end: str = "\n") -> None:
        self._stream.write(f"{start}{text}{end}")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of one width, never cut."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return [_aligned(row, widths) for row in rows]


def to_json(value: object, indent: int | None = None) -> str:
    """Return JSON in which characters that a terminal might act on are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _NON_ASCII.sub(lambda c: json.dumps(c[0])[1:-1] if unsafe(c[0]) else c[0], text)


def to_yaml(value: object) -> str:
    """Return YAML in which characters that a terminal might act on are escaped."""
    plain = not any(unsafe(c) for c in set(_strings(value)))
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=plain, width=sys.maxsize)


def _strings(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - cell_len(cell) + _GAP) for cell, width in zip(cells, widths, strict=True))
    return "".join(padded).rstrip()
