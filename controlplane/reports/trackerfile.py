"""The tracker's configuration file: logDir, reportLevel, reportLinks, as the Go Module Controller V2 reads it.

A link that cannot be used gets no reports; it keeps neither the others nor the file of events from working.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from controlplane.reports.hooks import Target, Unusable, check_url, masked, target
from service.wording import plain

DEFAULT_PATH = "config/default_tracker_config.yaml"
LARGEST = 1024 * 1024


class Level(Enum):
    """What is posted to the links."""

    ERROR = "error"
    DEBUG = "debug"


class WrongTrackerFile(ValueError):
    """The file cannot be used; the message says why and what to do, without its own name."""


class TrackerConfig(BaseModel):
    """What the file says; logDir is relative to the folder that the program runs in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_dir: Path = Field(Path(), alias="logDir")
    level: Level = Field(Level.ERROR, alias="reportLevel")
    all_links: tuple[str, ...] = Field((), alias="reportLinks")

    @field_validator("all_links", mode="before")
    @classmethod
    def _links(cls, value: object) -> object:
        links = [] if value is None else value
        if not isinstance(links, list | tuple):
            raise ValueError("must be a list of URLs")  # noqa: TRY004 - pydantic wants ValueError
        return tuple(str(link) for link in links)

    @property
    def links(self) -> tuple[str, ...]:
        """The links that can be used."""
        return tuple(link for link in self.all_links if _why_unusable(link) is None)

    @property
    def unusable(self) -> tuple[Unusable, ...]:
        """The links that cannot."""
        return tuple(Unusable(name, why) for name, link in self._named() if (why := _why_unusable(link)) is not None)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Where the links are that can be used."""
        return tuple(found for name, link in self._named() if (found := target(name, link)) is not None)

    def _named(self) -> Iterator[tuple[str, str]]:
        for number, link in enumerate(self.all_links, 1):
            yield f"link {number} ({masked(link)})", link


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
        said = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise WrongTrackerFile(f"it is not YAML{where}; it has the keys logDir, reportLevel, reportLinks") from error
    if said is None:
        said = {}
    if not isinstance(said, dict):
        raise WrongTrackerFile("it must have the keys logDir, reportLevel, reportLinks")
    try:
        return TrackerConfig.model_validate(said)
    except ValidationError as error:
        raise WrongTrackerFile("; ".join(_explain(dict(e)) for e in error.errors())) from error


def _why_unusable(link: str) -> str | None:
    try:
        check_url(link)
    except ValueError as error:
        return str(error)
    return None


def _explain(error: dict[str, object]) -> str:
    location = error["loc"]
    key = str(location[0]) if isinstance(location, tuple) and location else ""
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such key; there are logDir, reportLevel, reportLinks"
    return f"{key}: {plain(str(error['msg']))}"
