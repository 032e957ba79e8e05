"""A peer Deployment follows the bases on the embedded cluster, whose scheduler and Deployments are our own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.everything import EXAMPLES, Bases
from tests.programs import ControlPlane, HttpGateway, Programs, eventually

BIZ = {"biz1:0.0.1": "activated"}


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as programs:
        yield programs


def test_the_example_follows_bases_up_and_down(programs: Programs) -> None:
    control_plane = ControlPlane(
        programs,
        CLUSTER="embedded",
        EMBEDDED_DB=str(programs.folder / "cluster.db"),
        # The other name of ENABLE_MODULE_DEPLOYMENT_CONTROLLER.
        ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE="true",
        MODULE_SCALE_DOWN_DELAY="3",
    ).start()
    gateway = HttpGateway(programs, control_plane.address).start()
    mctl = control_plane.mctl()
    mctl("apply", "-f", str(EXAMPLES / "peer-deployment.yaml"))
    options = ("--controller", gateway.url, "--heartbeat-interval", "2", "--count", "20")
    bases = Bases(programs, "b", *options, count=20).start()
    eventually(lambda: all(m == BIZ for m in bases.states().values()), within=60, what="the module on all bases")
    gone, kept = bases.identities[:5], bases.identities[5:]
    for base in gone:
        bases.control("deactivate", base)
    eventually(lambda: "-> 15: " in mctl("events"), within=30, what="15 replicas")
    states = bases.states()
    assert all(states[base] == BIZ for base in kept)
    for base in gone:
        bases.control("start", base)
    eventually(lambda: all(m == BIZ for m in bases.states().values()), within=30, what="the module on all bases again")
    # Those that stayed were never touched.
    assert all(bases.orders(base) == [("install", "biz1:0.0.1")] for base in kept)
