"""A small rollout is measured with and without a bare client."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.kubernetes, pytest.mark.usefixtures("kube_cluster"), pytest.mark.timeout(300)]

MULTIPLES = {"rollout, multiple of a bare client", "deletion, multiple of a bare client"}


@pytest.mark.parametrize("options", [(), ("--baseline", "--rounds", "2")])
def test_every_pod_is_counted_and_the_multiples_where_there_is_a_bare_client(options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "benchmarks", "rollout", "--bases", "2", "--modules", "2", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert figures["  pod-status per install"] == 1.0
    assert figures.keys() & MULTIPLES == (MULTIPLES if options else set())
