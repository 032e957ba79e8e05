"""What a check found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum

from modulecontroller.configuration import Configuration
from service.masking import masked


class Level(Enum):
    """How bad it is, least first."""

    OK = "ok"
    SKIPPED = "skipped"
    """It could not be looked at, or does not concern what is run here."""
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: what it is about, how bad it is, the cause, and what to do about it."""

    about: str
    level: Level
    message: str
    fix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", masked(self.message))


Check = Callable[[Configuration], AsyncIterator[Finding]]
"""Yields what it finds, so that what was found before its time is over is not lost."""


def ok(about: str, message: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(about, Level.OK, message)


def skipped(about: str, message: str) -> Finding:
    """Return that something was not looked at, and why."""
    return Finding(about, Level.SKIPPED, message)


def warning(about: str, message: str, fix: str) -> Finding:
    """Return something that will probably hurt."""
    return Finding(about, Level.WARNING, message, fix)


def error(about: str, message: str, fix: str) -> Finding:
    """Return something that keeps the programs from working."""
    return Finding(about, Level.ERROR, message, fix)


def some(names: list[str], most: int = 5) -> str:
    """Return names as a list for people, not all of them when there are many."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
