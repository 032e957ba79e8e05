"""Where programs are found, and what their keys in the cache depend on."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from modulecontroller.doctor import cluster
from tests.servers import bundles
from tests.servers.bundles import (
    ARGO_ROLLOUTS,
    ETCD,
    HELM,
    KUBECTL,
    KUBERNETES,
    METRICS_SERVER,
    OLDEST_KUBERNETES,
    Bundle,
    cache_folder,
    find,
    find_mosquitto,
    under_test,
)


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


def test_assets_that_lack_a_program_are_skipped(tmp_path: Path) -> None:
    assets = put(tmp_path / "assets", "kube-apiserver", "etcd")
    cached = put(tmp_path / "cache" / KUBERNETES.key, *KUBERNETES.programs)
    environ = {"KUBEBUILDER_ASSETS": str(assets), "KOUPLELESS_CACHE": str(tmp_path / "cache")}
    kubernetes, etcd = find(KUBERNETES, environ), find(ETCD, environ)
    assert kubernetes is not None
    assert kubernetes.folder == cached
    assert etcd is not None
    assert etcd.folder == assets


def test_a_program_that_cannot_be_executed_is_not_found(tmp_path: Path) -> None:
    (put(tmp_path / ETCD.key) / "etcd").touch(mode=0o644)
    assert find(ETCD, {"KOUPLELESS_CACHE": str(tmp_path)}) is None


def test_programs_without_the_folders_of_their_bundle_are_not_found(tmp_path: Path) -> None:
    folder = put(tmp_path / ARGO_ROLLOUTS.key, *ARGO_ROLLOUTS.programs)
    environ = {"KOUPLELESS_CACHE": str(tmp_path)}
    assert find(ARGO_ROLLOUTS, environ) is None
    for name in ARGO_ROLLOUTS.folders:
        (folder / name).mkdir(parents=True)
    assert find(ARGO_ROLLOUTS, environ) is not None


@pytest.mark.parametrize("bundle", [ETCD, KUBERNETES, OLDEST_KUBERNETES, KUBECTL, METRICS_SERVER, ARGO_ROLLOUTS, HELM])
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


def test_the_oldest_kubernetes_is_chosen_by_a_variable() -> None:
    assert under_test({}) == (ETCD, KUBERNETES, KUBECTL)
    assert under_test({"TEST_KUBERNETES": "1.20"}) == (ETCD, OLDEST_KUBERNETES, KUBECTL)
    with pytest.raises(ValueError, match=r"TEST_KUBERNETES=1\.19: there is only current, 1\.20"):
        under_test({"TEST_KUBERNETES": "1.19"})


def test_versions_that_are_run_are_those_that_doctor_knows() -> None:
    versions = [tuple(map(int, bundle.version.split(".")[:2])) for bundle in (OLDEST_KUBERNETES, KUBERNETES)]
    assert versions == [cluster.OLDEST, cluster.NEWEST]


def test_kubectl_is_of_the_current_version() -> None:
    assert KUBECTL.version == KUBERNETES.version
