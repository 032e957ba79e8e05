"""What a check found."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from modulecontroller.configuration import Configuration
from service.settings import Settings

S = TypeVar("S", bound=Settings)


class Level(StrEnum):
    """How bad it is, least first."""

    OK = "ok"
    SKIPPED = "skipped"
    """It could not be looked at, or does not concern what is run here."""
    WARNING = "warning"
    """It will probably hurt."""
    ERROR = "error"
    """It keeps the programs from working."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: how bad it is, the cause, what to do about it, and what it is about.

    Checks leave about empty where it is what the check as a whole is about.
    """

    level: Level
    message: str
    fix: str = ""
    about: str = ""


ok = partial(Finding, Level.OK)
skipped = partial(Finding, Level.SKIPPED)
warning = partial(Finding, Level.WARNING)
error = partial(Finding, Level.ERROR)


class Skip(Exception):
    """The rest of a check is left out; the message says why."""


Check = Callable[[Configuration], AsyncIterator[Finding]]
"""Yields what it finds, so that what was found before its time is over is not lost; raises Skip."""


def need(configuration: Configuration, cls: type[S]) -> S:
    """Return the settings that a check is about; raises Skip."""
    settings = configuration.of(cls)
    if settings is None:
        raise Skip(configuration.why_not(cls))
    return settings
