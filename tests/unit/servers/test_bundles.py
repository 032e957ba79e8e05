"""Where programs are looked for, and what names them in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers import bundles
from tests.servers.bundles import ETCD, KUBERNETES, Bundle, cache_folder, find, find_mosquitto


def put(folder: Path, *programs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs:
        (folder / program).touch(mode=0o755)
    return folder


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"KOUPLELESS_CACHE": "/own", "XDG_CACHE_HOME": "/users"}, "/own"),
        ({"XDG_CACHE_HOME": "/users"}, "/users/koupleless-module-controller"),
    ],
)
def test_cache_folder_is_ours_then_the_users(environ: Mapping[str, str], expected: str) -> None:
    assert cache_folder(environ) == Path(expected)


def test_cache_folder_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder({}) == Path("/home/somebody/.cache/koupleless-module-controller")


def test_assets_go_before_the_cache(tmp_path: Path) -> None:
    assets = put(tmp_path / "assets", *KUBERNETES.programs)
    put(tmp_path / "cache" / KUBERNETES.key, *KUBERNETES.programs)
    found = find(KUBERNETES, {"KUBEBUILDER_ASSETS": str(assets), "KOUPLELESS_CACHE": str(tmp_path / "cache")})
    assert found is not None
    assert found.folder == assets


def test_assets_that_lack_a_program_are_passed_over(tmp_path: Path) -> None:
    assets = put(tmp_path / "assets", "kube-apiserver", "etcd")
    cached = put(tmp_path / "cache" / KUBERNETES.key, *KUBERNETES.programs)
    environ = {"KUBEBUILDER_ASSETS": str(assets), "KOUPLELESS_CACHE": str(tmp_path / "cache")}
    kubernetes, etcd = find(KUBERNETES, environ), find(ETCD, environ)
    assert kubernetes is not None
    assert kubernetes.folder == cached
    assert etcd is not None
    assert etcd.folder == assets


def test_a_program_that_cannot_be_executed_is_none(tmp_path: Path) -> None:
    (put(tmp_path / ETCD.key) / "etcd").touch(mode=0o644)
    assert find(ETCD, {"KOUPLELESS_CACHE": str(tmp_path)}) is None


@pytest.mark.parametrize("bundle", [ETCD, KUBERNETES])
def test_key_follows_what_pins_the_sources(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bundle.key
    assert before.startswith(f"{bundle.name}-{bundle.version}-linux-")
    shutil.copytree(bundles.BUILD, tmp_path / "build")
    monkeypatch.setattr(bundles, "BUILD", tmp_path / "build")
    assert bundle.key == before
    with (bundle.sources / "go.sum").open("a") as sums:
        sums.write("example.com/more v1.0.0 h1:0\n")
    assert bundle.key != before


def test_mosquitto_is_found_on_the_path(tmp_path: Path) -> None:
    program = put(tmp_path, "mosquitto") / "mosquitto"
    assert find_mosquitto({"PATH": f"/nowhere:{tmp_path}"}) == program
