"""mctl: the command line client of the Koupleless module controller."""

import sys
from collections.abc import Sequence

from mctl.errors import ExitCode
from service import output


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, that of the process when not given, and return the exit code."""
    try:
        return output.run("mctl", lambda: _run(argv))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _run(argv: Sequence[str] | None) -> int:
    # Loading takes most of a second, and Ctrl-C may come in that time, too.
    from mctl.app import run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
