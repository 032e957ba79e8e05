"""mctl: the command line client of the Koupleless module controller."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, that of the process when not given, and return the exit code."""
    try:
        # Loading takes most of a second, and Ctrl-C may come in that time, too.
        from mctl.app import run

        return run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
