"""The journal gives a watch every change, or ends it as expired."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cluster.api import NODES, Expired
from controlplane.embedded.api.database import Change
from controlplane.embedded.api.resources import object_key
from controlplane.embedded.api.store import Journal


def change(version: int, size: int = 10) -> Change:
    return Change(object_key(NODES, f"n{version}"), version, b"x" * size, None, None)


@given(st.sets(st.integers(1, 200), min_size=1), st.integers(1, 50), st.integers(0, 200))
def test_a_reader_gets_every_later_change_or_expired(versions: set[int], limit: int, resume: int) -> None:
    journal = Journal(0, max_changes=limit)
    ordered = sorted(versions)
    for version in ordered:
        journal.append(change(version))
    later = [v for v in ordered if v > resume]
    try:
        found = journal.after(resume, 1000)
    except Expired:
        assert len(later) >= limit // 2
        return
    assert [c.version for c in found] == later


def test_a_reader_that_falls_behind_gets_expired() -> None:
    journal = Journal(0, max_changes=4)
    for version in range(1, 10):
        journal.append(change(version))
    with pytest.raises(Expired):
        journal.after(0, 10)


def test_memory_is_bounded_in_bytes() -> None:
    journal = Journal(0, max_bytes=1000)
    for version in range(1, 100):
        journal.append(change(version, 300))
    assert len(journal.after(98, 10)) == 1
    with pytest.raises(Expired):
        journal.after(90, 10)
