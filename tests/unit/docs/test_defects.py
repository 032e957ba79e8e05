"""The page about the defects of the original answers each of them."""

import re

from tests.unit.docs.pages import ROOT

PAGE = ROOT / "docs" / "originals-defects.md"
ROW = re.compile(r"^\| D(\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`tests/[\w/]+\.py::\w+`")


def test_every_defect_is_answered() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert [int(number) for number, *_ in rows] == list(range(1, 61))
    for number, original, here, shown in rows:
        assert original.strip(), number
        assert here.strip(), number
        assert TEST.search(shown), f"D{number}: no test"
