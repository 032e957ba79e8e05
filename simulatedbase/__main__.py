"""The simulated-base program."""

from __future__ import annotations

import sys

from simulatedbase.cli import main

if __name__ == "__main__":
    sys.exit(main())
