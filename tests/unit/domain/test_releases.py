"""When a module that is there is what a Pod wants, and when it must be installed again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.facts import InstallStrategy, ModuleSpec
from controlplane.domain.identity import ModuleKey
from controlplane.domain.releases import UNKNOWN, Release, outdated, record, recorded, release
from tests.unit.domain.pods import pod

SPEC = ModuleSpec(ModuleKey("a", "1"), "https://repo.example/a.jar", args=("x",), envs=(("K", "V"), ("L", "W")))
FORCED = replace(SPEC, strategy=InstallStrategy.FORCE)
OLD, NEW = pod("old", age=5), pod("new", age=1)
TEXT = st.text(alphabet="ab1.:-/TZ", max_size=12)


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, url="https://repo.example/b.jar"),
        replace(SPEC, args=("y",)),
        replace(SPEC, envs=(("K", "other"), ("L", "W"))),
    ],
)
def test_another_content_is_another_release(other: ModuleSpec) -> None:
    assert outdated(release(SPEC, OLD), release(other, OLD))


def test_the_same_content_is_shared_whoever_wants_it() -> None:
    reordered = replace(SPEC, envs=tuple(reversed(SPEC.envs)))
    assert release(SPEC, OLD) == release(reordered, NEW)
    assert not outdated(release(SPEC, OLD), release(reordered, NEW))


def test_force_installs_again_for_each_newer_pod_and_never_for_an_older_one() -> None:
    assert outdated(release(FORCED, OLD), release(FORCED, NEW))
    assert not outdated(release(FORCED, NEW), release(FORCED, OLD))
    assert not outdated(release(FORCED, NEW), release(FORCED, NEW))


def test_what_nothing_is_known_of_is_taken_as_it_is() -> None:
    assert not outdated(UNKNOWN, release(SPEC, NEW))
    assert not outdated(UNKNOWN, release(FORCED, NEW))


@given(st.dictionaries(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT), max_size=4))
def test_what_is_recorded_is_read_back(owned: dict[tuple[str, str], tuple[str, str, str]]) -> None:
    usable = {
        ModuleKey(name, version): Release(digest.replace("/", ""), pod.replace("/", ""), created if pod else "")
        for (name, version), (digest, pod, created) in owned.items()
        if name and version and ":" not in name + version
    }
    usable = {key: Release(r.digest) if not r.pod else r for key, r in usable.items()}
    assert recorded(record(usable)) == usable


@given(st.text(max_size=30) | st.sampled_from(['["a:1"]', '{"a:1": 1}', '{"a": "x"}', "[" * 100_000]))
def test_a_record_that_makes_no_sense_is_none(text: str) -> None:
    assert all(isinstance(value, Release) for value in recorded(text).values())
