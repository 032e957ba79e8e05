"""Versions of Go, and what the linker is told."""

from __future__ import annotations

import pytest

from tests.servers.bundles import ETCD, KUBERNETES, OLDEST_KUBERNETES
from tests.servers.commands import last_line
from tests.servers.golang import link_flags, parse_version


@pytest.mark.parametrize(
    ("older", "newer"), [("1.19", "1.26.0"), ("go1.9.7", "go1.10"), ("1.26rc1", "1.26.1"), ("devel +abc", "1.1")]
)
def test_versions_are_compared_as_numbers(older: str, newer: str) -> None:
    assert parse_version(older) < parse_version(newer)


def test_a_version_without_patch_is_its_first_release() -> None:
    assert parse_version("go1.26") == parse_version("1.26.0")


def test_kubernetes_is_told_its_version() -> None:
    assert f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES.version}" in link_flags(KUBERNETES)
    assert "gitVersion=v1.20." in link_flags(OLDEST_KUBERNETES)
    assert link_flags(ETCD) == "-s -w"


def test_the_last_line_is_the_last_that_says_something() -> None:
    assert last_line("a\n  b \n\n") == "b"
    assert last_line("\n") == "no output"
