"""Numbers on the command line, refused when they make no sense."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def number(least: int, most: int) -> Callable[[str], int]:
    """Return the type of an option for whole numbers within limits."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not within {least} to {most}")
        return value

    return number


def seconds(text: str) -> float:
    """Read a time that may be 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def offset(text: str) -> float:
    """Read seconds forward or, below 0, back."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def interval(text: str) -> float:
    """Read a time that is longer than 0."""
    value = seconds(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("an interval must be longer than 0 seconds")
    return value
