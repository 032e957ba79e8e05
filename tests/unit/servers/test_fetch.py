"""Which source gives a bundle, and what is left when one fails."""

from __future__ import annotations

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
    raise AssertionError("asked in vain")


def test_the_build_follows_a_download_that_failed(cache: Path) -> None:
    found = obtain(ETCD, [unreachable, makes_all])
    assert found.folder == cache / ETCD.key
    assert sorted(path.name for path in found.folder.iterdir()) == ["etcd"]


def test_what_is_cached_is_not_got_again() -> None:
    first = obtain(ETCD, [makes_all])
    assert obtain(ETCD, [never]) == first


def test_every_refusal_is_told_and_nothing_is_left(cache: Path) -> None:
    with pytest.raises(Unavailable, match=r"etcd .*: no such host; there is no Go"):
        obtain(ETCD, [unreachable, compiler_missing])
    assert [path.name for path in cache.iterdir()] == [f"{ETCD.key}.lock"]


def test_a_source_that_makes_too_little_is_refused() -> None:
    with pytest.raises(Unavailable, match="not all programs"):
        obtain(ETCD, [makes_nothing])


def test_an_incomplete_folder_in_the_cache_is_replaced(cache: Path) -> None:
    (cache / ETCD.key).mkdir(parents=True)
    assert (obtain(ETCD, [makes_all]).folder / "etcd").is_file()
