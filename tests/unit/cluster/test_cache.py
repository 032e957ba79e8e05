"""A cache combines lists, events of the watch and results of our writes."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cluster.informer import Cache, newer


@dataclass(frozen=True)
class View:
    uid: str
    resource_version: str


class Recording(Cache[View]):
    def __init__(self) -> None:
        super().__init__()
        self.announced: list[str] = []
        self.changes: list[tuple[View | None, View | None]] = []

    def announce(self, key: str, old: View | None, new: View | None, *, own: bool = False) -> None:
        self.announced.append(key)
        self.changes.append((old, new))


def _cache() -> tuple[Cache[View], list[str]]:
    cache = Recording()
    return cache, cache.announced


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [
        ("2", "1", True),
        ("10", "9", True),
        ("1", "1", False),
        ("1", "2", False),
        ("a", "1", None),
        ("1", "", None),
        ("٣", "1", None),
        ("9" * 5000, "1", None),
        ("x", "x", False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, than: str, expected: bool | None) -> None:
    assert newer(version, than) is expected


def test_a_write_is_seen_at_once_and_its_echo_changes_nothing() -> None:
    cache, announced = _cache()
    cache.replace([], "10")
    cache.written("a", View("u", "11"))
    assert cache.get("a") == View("u", "11")
    cache.changed("a", View("u", "11"))
    assert announced == ["a"]


def test_the_result_of_a_write_does_not_bring_back_what_was_deleted_since() -> None:
    cache, _ = _cache()
    cache.replace([("a", View("u", "10"))], "10")
    cache.gone("a", "12")
    cache.written("a", View("u", "11"))
    assert cache.get("a") is None


def test_the_result_of_a_write_does_not_replace_what_is_newer() -> None:
    cache, _ = _cache()
    cache.replace([("a", View("u", "12"))], "12")
    cache.written("a", View("u", "11"))
    assert cache.get("a") == View("u", "12")


def test_a_list_made_before_our_write_does_not_take_it_away() -> None:
    cache, _ = _cache()
    cache.replace([], "10")
    cache.written("a", View("u", "12"))
    cache.replace([], "11")
    assert cache.get("a") == View("u", "12")
    cache.replace([], "13")
    assert cache.get("a") is None


def test_an_old_event_does_not_set_back_what_we_wrote() -> None:
    cache, _ = _cache()
    cache.replace([("a", View("u", "10"))], "10")
    cache.written("a", View("u", "12"))
    cache.changed("a", View("u", "11"))
    assert cache.get("a") == View("u", "12")
    assert cache.seen == "11"


def test_the_deletion_of_an_earlier_object_leaves_its_successor() -> None:
    cache, _ = _cache()
    cache.replace([("a", View("u", "10"))], "10")
    cache.written("a", View("v", "12"))
    cache.gone("a", "11")
    assert cache.get("a") == View("v", "12")


def test_with_versions_that_are_no_numbers_only_the_watch_counts() -> None:
    cache, _ = _cache()
    cache.replace([("a", View("u", "p"))], "p")
    cache.written("a", View("u", "q"))
    assert cache.get("a") == View("u", "p")
    cache.changed("a", View("u", "q"))
    assert cache.get("a") == View("u", "q")
    cache.gone("a", "r")
    assert cache.get("a") is None


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_with_any_interleaving_of_results_and_events_the_cache_ends_as_the_cluster(
    present: list[bool], data: st.DataObject
) -> None:
    """Version i+1 either writes the object or deletes it; some writes are ours and their results come late."""
    cache = Recording()
    cache.replace([], "0")
    events = [(str(version), exists) for version, exists in enumerate(present, start=1)]
    ours = [version for version, exists in events if exists and data.draw(st.booleans())]
    shown: list[int] = [0]
    while events or ours:
        if ours and (not events or data.draw(st.booleans())):
            cache.written("a", View("u", ours.pop(data.draw(st.integers(0, len(ours) - 1)))))
        else:
            version, exists = events.pop(0)
            if exists:
                cache.changed("a", View("u", version))
            else:
                cache.gone("a", version)
        view = cache.get("a")
        if view is not None:
            assert int(view.resource_version) >= shown[-1]
            shown.append(int(view.resource_version))
    assert (cache.get("a") is not None) == present[-1]
    assert cache.seen == str(len(present))
    assert all(old != new for old, new in cache.changes)
    states = [None, *(new for _, new in cache.changes)]
    assert [old for old, _ in cache.changes] == states[:-1], "each change begins where the last one ended"
    assert states[-1] == cache.get("a")
