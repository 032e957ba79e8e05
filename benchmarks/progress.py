"""Lines about long work, on standard error."""

import sys
import time

_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Write a line with the seconds since the program began."""
    print(f"{time.monotonic() - _BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)
