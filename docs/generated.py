"""Pages that are made from something else: written, or compared with what they should be."""

import argparse
import difflib
import sys
from pathlib import Path


def keep(program: str, page: Path, wanted: str, description: str | None) -> int:
    """Run the command of a page: write it, or with --check say what differs; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    if not parser.parse_args().check:
        page.write_text(wanted, encoding="utf-8")
        return 0
    found = page.read_text(encoding="utf-8") if page.exists() else ""
    if found == wanted:
        return 0
    lines = difflib.unified_diff(found.splitlines(), wanted.splitlines(), str(page), "as it should be", lineterm="")
    sys.stderr.write("\n".join([*lines, f"run: python -m {program}", ""]))
    return 1
