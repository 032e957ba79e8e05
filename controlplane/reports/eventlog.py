"""The tracker's file events.log: appended to, and rotated so that it stays bounded.

It is opened for each batch of lines, so that other tools may move or remove it.
"""

from __future__ import annotations

import os
from pathlib import Path

from controlplane.reports.worker import StillBusy, Worker

NAME = "events.log"
LARGEST = 64 * 1024 * 1024
KEPT = 4
"""Older files that are kept: events.log.1 is the newest of them."""
WITHIN = 20.0


class EventLog:
    """Writes in a thread, so that a slow disk delays nothing else."""

    def __init__(self, folder: Path, *, largest: int = LARGEST, kept: int = KEPT) -> None:
        self._path = folder / NAME
        self._largest = largest
        self._kept = kept
        self._worker = Worker("event-file")

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    def why_not_writable(self) -> str:
        """Return why it cannot be written, empty if that is not seen; nothing is touched."""
        folder = self._path.parent
        if not folder.is_dir():
            return f"there is no folder {folder}"
        if self._path.is_dir():
            return f"{self._path} is a folder"
        there = self._path if self._path.exists() else folder
        return "" if os.access(there, os.W_OK) else f"{there} cannot be written by this user"

    async def append(self, text: str) -> None:
        """Write lines; raises OSError or TimeoutError, and some of it may have been written then."""
        try:
            await self._worker.call(lambda: self._append(text.encode(errors="replace")), within=WITHIN)
        except StillBusy as error:
            raise TimeoutError("the disk has not taken the lines before") from error

    def _append(self, lines: bytes) -> None:
        with self._path.open("ab") as file:
            size = file.tell()
            if size == 0 or size + len(lines) <= self._largest:
                file.write(lines)
                return
        self._rotate()
        with self._path.open("ab") as file:
            file.write(lines)

    def _rotate(self) -> None:
        for number in range(self._kept, 0, -1):
            older = self._path.with_name(f"{NAME}.{number - 1}") if number > 1 else self._path
            if older.exists():
                older.replace(self._path.with_name(f"{NAME}.{number}"))
