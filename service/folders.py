"""Where programs keep what has to outlive them when nobody says where."""

from __future__ import annotations

import os
from pathlib import Path

WITHOUT_HOME = Path("/var/lib")
"""In a container a user often has neither an entry in /etc/passwd nor HOME."""


def state_folder() -> Path:
    """Return our folder in XDG_STATE_HOME, else in the user's home folder, else in /var/lib; it may not be there."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        state = WITHOUT_HOME
    return state / "koupleless-module-controller"


def give_home() -> None:
    """Set HOME to / where nobody knows a home folder, as container runtimes do: libraries look for files there."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"
