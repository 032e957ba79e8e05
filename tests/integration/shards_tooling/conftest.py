"""The stage of these tests: two replicas that each own two of four bases."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Self

import pytest

from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, ask, eventually
from tests.servers.cluster import KubeCluster

NAMES = ("replica-a", "replica-b")
BASES = 4


class Pair:
    """Both replicas, and their bases."""

    def __init__(self, cluster: KubeCluster, programs: Programs) -> None:
        self.planes = [
            ControlPlane(
                programs,
                name,
                **cluster.environ(),
                LOG_LEVEL="debug",
            )
            for name in NAMES
        ]
        self.mctl = [plane.mctl() for plane in self.planes]
        self.gateway = HttpGateway(programs, ",".join(plane.address for plane in self.planes), LOG_LEVEL="debug")
        self.bases: dict[str, SimulatedBase] = {}
        self._programs = programs

    def start(self) -> Self:
        """Start all, and wait until each replica owns half of the bases."""
        for plane in self.planes:
            plane.start()
        self.gateway.start()
        for number in range(1, BASES + 1):
            base = SimulatedBase(self._programs, self.gateway.url, f"base-{number}")
            self.bases[base.identity] = base.start()
        self.wait_even()
        return self

    def owners(self) -> dict[str, str]:
        """Return which replica owns which base, as the first says."""
        return {shard["base"]: shard["owner"] for shard in self.mctl[0].items("get", "shards")}

    def wait_even(self) -> None:
        """Return when each replica owns half of the bases, and all are Ready."""
        half = dict.fromkeys(NAMES, BASES // 2)
        eventually(lambda: Counter(self.owners().values()) == half, within=90, what="bases are shared evenly")
        for mctl in self.mctl:
            eventually(
                lambda mctl=mctl: [v["state"] for v in mctl.items("get", "vnodes")] == ["Ready"] * BASES,  # type: ignore[misc]
                within=60,
                what="all Ready, with what only their owners know",
            )

    def owned_by(self, replica: str) -> SimulatedBase:
        """Return a base of a replica."""
        return self.bases[min(base for base, owner in self.owners().items() if owner == replica)]


def install_from_outside(base: SimulatedBase, module: str) -> None:
    """Install a module on a base behind the controller's back."""
    body = {"bizName": module, "bizVersion": "1", "bizUrl": f"https://repo.example/{module}-1.jar"}
    code, text = ask(f"http://127.0.0.1:{base.port}/installBiz", method="POST", body=json.dumps(body).encode())
    assert code == 200, text


@pytest.fixture(scope="package")
def pair(kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both replicas, running."""
    kube_cluster.clean()
    with Programs(tmp_path_factory.mktemp("shards-tooling")) as programs:
        yield Pair(kube_cluster, programs).start()
