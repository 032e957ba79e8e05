"""Command line: get the real servers that tests need, or say where they are."""

import argparse
import sys
from collections.abc import Sequence

from tests.servers.fetch import NEEDS, Unavailable, fetch, where


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code: 0, or 1 if something is not available."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("command", choices=("fetch", "where"))
    parser.add_argument("--need", default=",".join(NEEDS), help=f"what is needed (default: {','.join(NEEDS)})")
    chosen = parser.parse_args(arguments)
    needs = [need.strip() for need in chosen.need.split(",") if need.strip()]
    if unknown := [need for need in needs if need not in NEEDS]:
        parser.error(f"--need {unknown[0]}: there is only {', '.join(NEEDS)}")
    code = 0
    for need in needs:
        try:
            print("\n".join(fetch(need) if chosen.command == "fetch" else where(need)), flush=True)
        except Unavailable as error:
            print(f"{need}: not available: {error}", file=sys.stderr, flush=True)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
