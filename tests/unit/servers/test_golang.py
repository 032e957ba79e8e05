"""Versions of Go, flags of the linker, and folders of module sources."""

import os
from pathlib import Path

import pytest

from tests.servers.bundles import ETCD, KUBERNETES, OLDEST_KUBERNETES
from tests.servers.commands import CannotBuild, download_module, last_line
from tests.servers.golang import link_flags, parse_version


@pytest.mark.parametrize(
    ("older", "newer"), [("1.19", "1.26.0"), ("go1.9.7", "go1.10"), ("1.26rc1", "1.26.1"), ("devel +abc", "1.1")]
)
def test_versions_are_compared_as_numbers(older: str, newer: str) -> None:
    assert parse_version(older) < parse_version(newer)


def test_a_version_without_patch_is_its_first_release() -> None:
    assert parse_version("go1.26") == parse_version("1.26.0")


def test_kubernetes_is_linked_with_its_version() -> None:
    assert f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES.version}" in link_flags(KUBERNETES)
    assert "gitVersion=v1.20." in link_flags(OLDEST_KUBERNETES)
    assert link_flags(ETCD) == "-s -w"


def test_the_last_line_is_the_last_that_is_not_blank() -> None:
    assert last_line("a\n  b \n\n") == "b"
    assert last_line("\n") == "no output"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """Return a program that answers as go does while its module cache is empty."""
    program = tmp_path / "go"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1 $2 $4" in\n'
        f"""'mod download example.com/there') mkdir -p {tmp_path}/there && echo '{{"Dir": "{tmp_path}/there"}}';;\n"""
        """'mod download example.com/refused') echo '{"Error": "403 Forbidden"}'; exit 1;;\n"""
        "'mod download example.com/placeless') echo '{}';;\n"
        "'mod download example.com/offline') echo 'go: no such host' >&2; exit 1;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    return program


def test_a_module_that_was_never_downloaded_is_downloaded(go: Path, tmp_path: Path) -> None:
    assert download_module(go, "example.com/there", os.environ, tmp_path) == tmp_path / "there"
    assert (tmp_path / "there").is_dir()


@pytest.mark.parametrize(
    ("module", "why"), [("refused", "403 Forbidden"), ("placeless", "{}"), ("offline", "go: no such host")]
)
def test_a_module_without_a_folder_is_an_error_that_says_why(go: Path, tmp_path: Path, module: str, why: str) -> None:
    with pytest.raises(CannotBuild, match=why):
        download_module(go, f"example.com/{module}", os.environ, tmp_path)
