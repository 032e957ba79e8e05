"""Memory that was freed leaves the process, though a block behind it is still in use."""

import resource
from pathlib import Path

import pytest

from service import heap

SIZE = 4000
"""Bytes of a block: too large for Python's own allocator, too small for a mapping of its own."""
BLOCKS = 20_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_what_was_freed_below_a_block_in_use_is_given_back() -> None:
    if heap._trim is None:
        pytest.skip("this C library has no malloc_trim")
    blocks = [bytearray(SIZE) for _ in range(BLOCKS)]
    last = blocks.pop()
    full = resident()
    del blocks
    heap.give_back()
    assert full - resident() > 0.8 * SIZE * BLOCKS
    assert len(last) == SIZE


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_trim", None)
    heap.give_back()
