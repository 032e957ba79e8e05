"""Bundles are fetched from the first source that works, and failures leave no files."""

from pathlib import Path

import pytest

from tests.servers.bundles import ETCD, Bundle
from tests.servers.commands import CannotBuild
from tests.servers.download import CannotDownload
from tests.servers.fetch import Unavailable, obtain


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("KOUPLELESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def unreachable(bundle: Bundle, target: Path) -> None:
    (target / "half").write_text("a part of it")
    raise CannotDownload("no such host")


def compiler_missing(bundle: Bundle, target: Path) -> None:
    raise CannotBuild("there is no Go")


def makes_all(bundle: Bundle, target: Path) -> None:
    for program in bundle.programs:
        (target / program).touch(mode=0o755)


def makes_nothing(bundle: Bundle, target: Path) -> None:
    pass


def never(bundle: Bundle, target: Path) -> None:
    raise AssertionError("no source may be asked")


def test_the_build_follows_a_failed_download(cache: Path) -> None:
    found = obtain(ETCD, [unreachable, makes_all])
    assert found.folder == cache / ETCD.key
    assert sorted(path.name for path in found.folder.iterdir()) == ["etcd"]


def test_a_cached_bundle_is_not_fetched_again() -> None:
    first = obtain(ETCD, [makes_all])
    assert obtain(ETCD, [never]) == first


def test_every_failure_is_reported_and_no_files_are_left(cache: Path) -> None:
    with pytest.raises(Unavailable, match=r"etcd .*: no such host; there is no Go"):
        obtain(ETCD, [unreachable, compiler_missing])
    assert [path.name for path in cache.iterdir()] == [f"{ETCD.key}.lock"]


def test_a_source_without_all_programs_is_refused() -> None:
    with pytest.raises(Unavailable, match="not all programs"):
        obtain(ETCD, [makes_nothing])


def test_an_incomplete_folder_in_the_cache_is_replaced(cache: Path) -> None:
    (cache / ETCD.key).mkdir(parents=True)
    assert (obtain(ETCD, [makes_all]).folder / "etcd").is_file()
