"""Runs the commands of the pages, and compares their output with what the page shows."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.unit.docs.pages import Block

_DIFFERS = (
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\d{4}-\d\d-\d\d\b", "DATE"),
    (r"\b[0-9a-f]{64}\b", "TOKEN"),
    (r"\bCN=CA [0-9a-f]{16}\b", "CA"),
    (r"\b([0-9A-F]{2}:){31}[0-9A-F]{2}\b", "FINGERPRINT"),
    (r"\S+/koupleless-module-controller/mctl\.json", "LOGINS"),
    (r"\d+\.\d+ s\b", "SECONDS"),
    (r"\b(\d+[smhd])+\b", "AGE"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_PROGRESS = re.compile(r"Waiting for |(# )?Warning: 'patchesJson6902' is deprecated|Warning: key \w+ transferred to ")
"""Lines that may be missing, or come in any order."""


def check(
    block: Block, environ: Mapping[str, str], folder: Path, *, within: float, here: Mapping[str, str] = _NOTHING
) -> None:
    """Run a block's commands in a folder; fails where one prints something else than the page shows.

    here has the texts of this machine by the texts of the page.
    """
    for command, output in block.commands():
        typed = command
        for text, instead in here.items():
            typed = typed.replace(text, instead)
        printed = run(typed, environ, folder, within=within)
        assert comparable(printed) == comparable(output), f"{block.name}: {command}\nprints:\n{printed}"


def run(command: str, environ: Mapping[str, str], folder: Path, *, within: float) -> str:
    """Return what a command prints."""
    typed = command.replace(".venv/bin/", "")
    done = subprocess.run(
        ["bash", "-c", typed], cwd=folder, env=environ, capture_output=True, text=True, timeout=within, check=False
    )
    return done.stdout + done.stderr


def comparable(text: str) -> list[str]:
    """Return lines without what differs from run to run: times, addresses, random names, widths, progress."""
    for pattern, name in _DIFFERS:
        text = re.sub(pattern, name, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not _PROGRESS.match(line)]
