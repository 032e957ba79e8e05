"""The simulated-base program."""

from __future__ import annotations

import sys

from gateways.simulated_base.cli import main

if __name__ == "__main__":
    sys.exit(main())
