"""Writes the tables of docs/pods.md from those that the control plane goes by, controlplane/domain/base/podfields.py.

``python -m docs.pods`` writes them into the page, with ``--check`` it only tells whether they are what they should be
(exit code 1 when they are not).
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from controlplane.domain.base.podfields import CONTAINER, POD, Field
from docs.generated import keep

PAGE = Path(__file__).parent / "pods.md"
TABLES = {"pods": POD, "containers": CONTAINER}


def page(text: str) -> str:
    """Return the page with its tables as they should be."""
    for name, fields in TABLES.items():
        begin, end = f"<!-- fields of {name}, made by python -m docs.pods -->\n", f"<!-- end of fields of {name} -->"
        block = f"{begin}{_table(fields)}{end}"
        text, found = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: block, text, flags=re.DOTALL)  # noqa: B023
        if not found:
            raise ValueError(f"{PAGE.name} has no place for the fields of {name}: {begin.strip()} {end}")
    return text


def _table(fields: Iterable[Field]) -> str:
    rows = [f"| `{field.path}` | {field.treatment.value} | {field.note} |\n" for field in fields]
    return "| field | what happens | more |\n|---|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    sys.exit(keep("docs.pods", PAGE, page(PAGE.read_text(encoding="utf-8")), __doc__))
