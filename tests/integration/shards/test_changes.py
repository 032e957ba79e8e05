"""Planned changes of replicas and gateways delete nothing, send no order, and leave all Ready at every moment."""

import time

import pytest

from tests.integration.shards.conftest import REPLICAS, Stage
from tests.programs import eventually

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]


def mctl(stage: Stage, *arguments: str) -> str:
    return stage.replicas["cp-0"].control_plane.mctl()(*arguments)


def test_a_replica_that_is_stopped_hands_over_and_gets_its_share_back(stage: Stage) -> None:
    with stage.undisturbed():
        for name in REPLICAS:
            replica = stage.replicas[name]
            replica.server.stop()
            left = set(stage.owned())
            began = time.monotonic()
            eventually(lambda name=name: name not in stage.owned(), within=10, what=f"{name} owns nothing")  # type: ignore[misc]
            assert left, f"handed over after {time.monotonic() - began:.1f} s"
            replica.control_plane.start()
            stage.wait_settled(within=60)
        stage.work("after-restart")


def test_a_restart_of_all_replicas_at_once_changes_nothing(stage: Stage) -> None:
    with stage.undisturbed():
        for replica in stage.replicas.values():
            replica.server.stop()
        for replica in stage.replicas.values():
            replica.server.start()
        for replica in stage.replicas.values():
            replica.control_plane.start()
        stage.wait_settled(within=60)
        stage.work("after-all")


def test_gateways_are_replaced_one_by_one(stage: Stage) -> None:
    with stage.undisturbed():
        for gateway in stage.all_gateways:
            gateway.server.stop()
            gateway.start()
            time.sleep(2)
        stage.work("after-gateways")


def test_a_drained_replica_owns_nothing_until_the_drain_is_undone(stage: Stage) -> None:
    with stage.undisturbed():
        mctl(stage, "drain", "cp-2")
        stage.wait_settled("cp-0", "cp-1", within=60)
        replicas = mctl(stage, "get", "replicas")
        assert "draining" in replicas
        stage.work("while-drained")
        mctl(stage, "drain", "cp-2", "--undo")
        stage.wait_settled(within=60)


def test_the_node_of_a_base_that_stops_is_removed_once(stage: Stage) -> None:
    base = stage.extra_base()
    node = base.nodes[0]
    eventually(lambda: node in stage.ready_nodes(), within=30, what="its Node")
    base.control("deactivate")
    base.server.stop()
    eventually(lambda: node not in stage.ready_nodes() and node not in stage.leases(), within=90, what="it is gone")
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        assert not [n for n in stage.api.items("/api/v1/nodes") if n["metadata"]["name"] == node], (
            "it does not come back"
        )
        time.sleep(0.3)
