"""The tracker's configuration file (logDir, reportLevel, reportLinks, as the Go Module Controller V2 reads it) and the
file of events that it names.

A link that cannot be used gets no reports; it keeps neither the others nor the file of events from working.
"""

import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from controlplane.reports.hooks import Destination, destinations
from service import yamltree
from service.wording import problem
from service.worker import Worker

DEFAULT_PATH = "config/default_tracker_config.yaml"
LARGEST = 1024 * 1024
_KEYS = "logDir, reportLevel, reportLinks"

EVENT_LOG = "events.log"
LARGEST_LOG = 64 * 1024 * 1024
KEPT = 4
"""Older files that are kept: events.log.1 is the newest of them."""
WRITTEN_WITHIN = 20.0


class WrongTrackerFile(ValueError):
    """The file cannot be used; the message says why and what to do, without its own name."""


class TrackerConfig(BaseModel):
    """What the file says; logDir is relative to the folder that the program runs in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_dir: Path = Field(default=Path(), alias="logDir")
    level: Literal["error", "debug"] = Field(default="error", alias="reportLevel")
    """What is posted to the links."""
    urls: tuple[str, ...] = Field(default=(), alias="reportLinks")

    @field_validator("urls", mode="before")
    @classmethod
    def _urls(cls, value: object) -> object:
        if not isinstance(value, list | tuple | None) or not all(isinstance(link, str) for link in value or ()):
            raise ValueError("must be a list of URLs")
        return tuple(value or ())

    @property
    def links(self) -> list[Destination]:
        """The links, also those that cannot be used."""
        return destinations("link", self.urls)


def load(path: Path) -> TrackerConfig:
    """Return what the file says; raises WrongTrackerFile."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise WrongTrackerFile(f"it cannot be read ({error.strerror}); name an existing file or unset it") from error
    if len(text) > LARGEST:
        raise WrongTrackerFile(f"it is larger than {LARGEST} bytes")
    try:
        content = yamltree.load(text)
    except yamltree.BadYaml as error:
        raise WrongTrackerFile(f"it is not YAML in line {error.line} ({error}); it has the keys {_KEYS}") from error
    if not isinstance(content, dict | None):
        raise WrongTrackerFile(f"it must have the keys {_KEYS}")
    try:
        return TrackerConfig.model_validate(content or {})
    except ValidationError as error:
        raise WrongTrackerFile(f"{problem(error)}; the keys are {_KEYS}") from error


class EventLog:
    """The file events.log: appended to, and rotated so that it stays bounded.

    It is opened for each batch of lines, so that other tools may move or remove it, and written in a thread, so that a
    slow disk delays nothing else. The handlers of logging keep it open, and say of a full disk nothing but a traceback:
    of them only the rotation is used.
    """

    def __init__(self, folder: Path, *, largest: int = LARGEST_LOG, kept: int = KEPT) -> None:
        self.path = folder / EVENT_LOG
        self._largest = largest
        self._kept = kept
        self._worker = Worker("event-file")

    def why_not_writable(self) -> str:
        """Return why it cannot be written, empty if that is not seen; nothing is touched."""
        folder = self.path.parent
        if not folder.is_dir():
            return f"there is no folder {folder}"
        if self.path.is_dir():
            return f"{self.path} is a folder"
        there = self.path if self.path.exists() else folder
        return "" if os.access(there, os.W_OK) else f"{there} cannot be written by this user"

    async def append(self, text: str) -> None:
        """Write lines; raises OSError or TimeoutError, and some of it may have been written then."""
        await self._worker.call(lambda: self._append(text.encode(errors="replace")), within=WRITTEN_WITHIN)

    def _append(self, lines: bytes) -> None:
        with self.path.open("ab") as file:
            size = file.tell()
        if size and size + len(lines) > self._largest:
            RotatingFileHandler(self.path, backupCount=self._kept, delay=True).doRollover()
        with self.path.open("ab") as file:
            file.write(lines)
