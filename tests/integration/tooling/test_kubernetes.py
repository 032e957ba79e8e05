"""The tooling API on a real cluster gives each base its own result, and ages as kubectl shows them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, eventually
from tests.servers.cluster import KubeCluster

pytestmark = pytest.mark.kubernetes

BASES = 4
URL = "https://repo.example/biz-1.jar"


class Stage:
    """A control plane with bases on a cluster."""

    def __init__(self, cluster: KubeCluster, programs: Programs) -> None:
        self.cluster = cluster
        self.control_plane = ControlPlane(
            programs,
            **cluster.environ(),
        ).start()
        gateway = HttpGateway(programs, self.control_plane.address).start()
        for number in range(BASES):
            SimulatedBase(programs, gateway.url, f"base-{number}").start()
        self.mctl = self.control_plane.mctl()
        self.mctl("wait", *(f"vnode/base-{number}" for number in range(BASES)), "--timeout", "60s")

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl as administrator."""
        done = self.cluster.kubectl(*arguments)
        done.check_returncode()
        return done.stdout

    def ages(self) -> dict[str, str]:
        """Return AGE of each VNode, as kubectl shows it."""
        rows = [line.split() for line in self.kubectl("get", "nodes", "--no-headers").splitlines()]
        return {row[0]: row[3] for row in rows}


@pytest.fixture
def stage(kube: KubeCluster, tmp_path: Path) -> Iterator[Stage]:
    with Programs(tmp_path) as programs:
        yield Stage(kube, programs)


def seconds(age: str) -> int:
    """Return how long an age is, as kubectl writes it: 85s, 2m5s."""
    parts = re.findall(r"(\d+)([dhms])", age)
    assert "".join(map("".join, parts)) == age, age
    return sum(int(number) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


def test_each_base_has_its_own_result_and_vnodes_the_age_that_kubectl_shows(stage: Stage) -> None:
    api = stage.cluster.api
    api.create("/api/v1/namespaces", {"metadata": {"name": "small"}})
    quotas = "/api/v1/namespaces/small/resourcequotas"
    api.create(quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}})
    eventually(lambda: api.items(quotas)[0].get("status", {}).get("hard"), within=30, what="the quota")
    install = ("install", "biz", "--version", "1", "--url", URL, "--all", "-n", "small")
    out, err = stage.mctl.run(*install, code=6)
    results = sorted(line.split()[-1] for line in out.splitlines()[1:])
    assert results == ["created", "created", "failed", "failed"]
    assert "2 of 4 failed" in err
    assert "exceeded quota: few" in err
    api.delete(f"{quotas}/few")
    out = stage.mctl(*install)
    results = sorted(line.split()[-1] for line in out.splitlines()[1:])
    assert results == ["created", "created", "unchanged", "unchanged"]

    # A new owner: it has known the VNodes for less long than they are.
    stage.control_plane.server.stop()
    stage.control_plane.start()
    stage.mctl("wait", *(f"vnode/base-{number}" for number in range(BASES)), "--timeout", "60s")
    created = {node["metadata"]["name"]: node["metadata"]["creationTimestamp"] for node in api.items("/api/v1/nodes")}
    items = stage.mctl.items("get", "vnodes")
    assert {item["name"]: item["created"].replace(".000Z", "Z") for item in items} == created
    assert all(item["since"] > item["created"] for item in items)

    before = stage.ages()
    shown = {line.split()[0]: line.split()[-1] for line in stage.mctl("get", "vnodes", "--no-headers").splitlines()}
    after = stage.ages()
    assert before.keys() == shown.keys() == after.keys()
    for name, age in shown.items():
        assert seconds(before[name]) <= seconds(age) <= seconds(after[name])
