"""Files and functions stay small enough to be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.unit.docs.pages import ROOT

LINES_OF_FILE = 400
LINES_OF_FUNCTION = 60
FOLDERS = (
    "benchmarks",
    "controlplane",
    "docs",
    "gateways",
    "kubeaccess",
    "mctl",
    "modulecontroller",
    "mqttclient",
    "service",
    "simulatedbase",
    "tests",
)


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        found = [*(ROOT / folder).rglob("*.py")]
        assert found, folder
        yield from found


def test_no_file_is_longer_than_400_lines() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in sources() if (lines := length(path)) > LINES_OF_FILE}
    assert not long


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_function_of_more_than_60_lines_says_why() -> None:
    silent = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LINES_OF_FUNCTION
        and "as long as" not in (ast.get_docstring(node) or "")
    ]
    assert not silent
