from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kube.lines import Lines, LineTooLong


@given(
    st.lists(st.binary(min_size=1, max_size=20).filter(lambda line: b"\n" not in line and line.strip()), max_size=8),
    st.data(),
)
def test_however_the_bytes_come_the_lines_are_the_same(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    collected = Lines(1000)
    got = [line for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for line in collected.feed(stream[a:b])]
    assert got == lines


def test_an_unfinished_line_waits() -> None:
    lines = Lines(100)
    assert lines.feed(b"ab") == []
    assert lines.feed(b"c\n\n\nd") == [b"abc"]
    assert lines.feed(b"\n") == [b"d"]


@pytest.mark.parametrize("chunks", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"x" * 11 + b"\n"]])
def test_a_line_beyond_the_limit_is_refused(chunks: list[bytes]) -> None:
    lines = Lines(10)
    *first, last = chunks
    assert [lines.feed(chunk) for chunk in first] == [[] for _ in first]
    with pytest.raises(LineTooLong, match="longer than 10 bytes"):
        lines.feed(last)
