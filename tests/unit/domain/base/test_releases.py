"""A module of another release than a Pod wants is installed again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base.releases import UNKNOWN, Release, outdated, record, recorded, release
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Container, FieldRef, Pod, ResourceRef
from tests.unit.domain.base.pods import pod

BIZ = Container("a", "https://repo.example/a.jar", "1", args=("x",), env=(("BIZ_VERSION", "1"), ("K", "V"), ("L", "W")))
OLD, NEW = pod("old", age=5), pod("new", age=1)
FORCED_OLD, FORCED_NEW = pod("old", age=5, strategy="force"), pod("new", age=1, strategy="force")
TEXT = st.text(alphabet="ab1.:-/TZ", max_size=12)


@pytest.mark.parametrize(
    "other",
    [
        replace(BIZ, image="https://repo.example/b.jar"),
        replace(BIZ, args=("y",)),
        replace(BIZ, env=(("K", "other"), ("L", "W"))),
        replace(BIZ, env=(("K", FieldRef("metadata.name")), ("L", "W"))),
    ],
)
def test_another_content_is_another_release(other: Container) -> None:
    assert outdated(release(OLD, BIZ), release(OLD, other))


def test_the_same_content_is_shared_whoever_wants_it() -> None:
    reordered = replace(BIZ, env=tuple(reversed(BIZ.env)))
    assert release(OLD, BIZ) == release(NEW, reordered)
    assert not outdated(release(OLD, BIZ), release(NEW, reordered))


def test_where_the_version_stands_makes_no_other_release() -> None:
    moved = replace(BIZ, image=f"{BIZ.image}#bizVersion=1", env=BIZ.env[1:])
    assert release(OLD, moved) == release(OLD, BIZ)


def test_digests_of_releases_in_clusters_stay() -> None:
    assert str(release(OLD, BIZ)) == "c8ca870c6e47"


def with_labels(name: str, **labels: str) -> Pod:
    return replace(pod(name), labels=labels)


def with_env(value: FieldRef | ResourceRef | str) -> Container:
    return replace(BIZ, env=(("K", value),))


@pytest.mark.parametrize("path", ["metadata.name", "metadata.uid", "spec.nodeName", "status.podIP", "status.hostIP"])
def test_fields_of_the_single_pod_make_no_other_release(path: str) -> None:
    one = replace(OLD, node_name="vnode.b2.dev")
    assert release(one, with_env(FieldRef(path))) == release(NEW, with_env(FieldRef(path)))
    assert release(OLD, with_env(FieldRef(path))) != release(OLD, with_env(path))


def test_fields_of_the_template_count_with_their_value() -> None:
    container = with_env(FieldRef("metadata.labels['tier']"))
    assert release(with_labels("a", tier="gold"), container) == release(with_labels("b", tier="gold"), container)
    assert release(with_labels("a", tier="gold"), container) != release(with_labels("b", tier="lead"), container)
    memory = with_env(ResourceRef("limits.memory", "1Mi", "64Mi"))
    assert release(OLD, memory) != release(OLD, with_env(ResourceRef("limits.memory", "1Mi", "65Mi")))


def test_where_variables_refer_to_each_other_their_order_counts() -> None:
    first = replace(BIZ, env=(("A", "x"), ("B", "$(A)")))
    assert release(OLD, first) != release(OLD, replace(first, env=tuple(reversed(first.env))))


def test_force_installs_again_for_each_newer_pod_and_never_for_an_older_one() -> None:
    assert outdated(release(FORCED_OLD, BIZ), release(FORCED_NEW, BIZ))
    assert not outdated(release(FORCED_NEW, BIZ), release(FORCED_OLD, BIZ))
    assert not outdated(release(FORCED_NEW, BIZ), release(FORCED_NEW, BIZ))


def test_an_unknown_release_is_taken_as_it_is() -> None:
    assert not outdated(UNKNOWN, release(NEW, BIZ))
    assert not outdated(UNKNOWN, release(FORCED_NEW, BIZ))


@given(st.dictionaries(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT), max_size=4))
def test_recorded_releases_are_read_back(owned: dict[tuple[str, str], tuple[str, str, str]]) -> None:
    usable = {
        ModuleKey(name, version): Release(digest.replace("/", ""), pod.replace("/", ""), created if pod else "")
        for (name, version), (digest, pod, created) in owned.items()
        if name and version and ":" not in name + version
    }
    usable = {key: Release(r.digest) if not r.pod else r for key, r in usable.items()}
    assert recorded(record(usable)) == usable


@given(st.text(max_size=30).filter(lambda text: not text.lstrip().startswith("{")) | st.just("[" * 100_000))
def test_an_unreadable_record_is_ignored(text: str) -> None:
    assert recorded(text) == {}


@pytest.mark.parametrize("unreadable", ['"a:1": 1', '"a:1": null', '"a:1": {"b:1": "d"}', '"a": "d"', '":1": "d"'])
def test_an_unreadable_entry_of_a_record_is_left_out(unreadable: str) -> None:
    assert recorded(f'{{{unreadable}, "b:1": "digest"}}') == {ModuleKey("b", "1"): Release("digest")}
