"""A stage for these tests: each has its own namespace, and no VNodes but its own."""

import subprocess

import pytest

from tests.corner import Sandbox
from tests.corner import everything as everything
from tests.corner import sandbox as shared
from tests.programs import eventually

__all__ = ["everything", "run", "sandbox", "shared"]


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    """A sandbox after the VNodes of the test before are gone: Pods that tolerate everything would go there too."""
    vnodes = shared.everything.control_plane.mctl()
    eventually(lambda: not vnodes.items("get", "vnodes"), within=60, what="no VNodes")
    return shared


def run(sandbox: Sandbox, *arguments: str, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run kubectl in the test's namespace; what hangs for longer fails the test."""
    return sandbox.everything.cluster.kubectl(*arguments, namespace=sandbox.name, within=within)
