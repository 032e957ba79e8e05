"""After faults of replicas and their connections each VNode has one owner, and nothing was deleted or ordered again."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controlplane.domain.identity import base_of_node
from tests.everything import manifest
from tests.integration.shards.conftest import LEASES, REPLICAS, Replica, Stage
from tests.programs import ControlPlane, ask, eventually, throughout
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.fixtures import not_run

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def others(name: str) -> tuple[str, ...]:
    return tuple(replica for replica in REPLICAS if replica != name)


def fences(stage: Stage) -> dict[str, int]:
    return {node: spec["leaseTransitions"] for node, spec in stage.leases().items()}


def test_the_bases_of_a_killed_replica_go_to_the_others(stage: Stage) -> None:
    replica = stage.replicas["cp-1"]
    before = fences(stage)
    lost = [node for node, spec in stage.leases().items() if spec["holderIdentity"] == "cp-1"]
    with stage.undisturbed():
        replica.server.stop(signal.SIGKILL)
        stage.wait_settled(*others("cp-1"), within=30)
        stage.work("after-kill")
        replica.control_plane.start()
        stage.wait_settled(within=60)
    after = fences(stage)
    assert lost
    assert all(after[node] > before[node] for node in lost)
    assert all(after[node] >= before[node] for node in before)


def test_an_owner_frozen_for_longer_than_its_lease_disturbs_nothing(stage: Stage) -> None:
    replica = stage.replicas["cp-0"]
    with stage.undisturbed():
        replica.server.signal(signal.SIGSTOP)
        try:
            stage.wait_settled(*others("cp-0"), within=30)
            stage.work("while-frozen")
        finally:
            replica.server.signal(signal.SIGCONT)
        stage.work("after-thaw")
        stage.wait_settled(within=60)


def test_starting_bases_are_answered_while_a_replica_hangs(stage: Stage) -> None:
    """Its streams are open and its record is fresh, so that it must answer for a third of the bases."""
    deployment = manifest("deployment.yaml", name="starting")
    deployment["spec"]["replicas"] = 1
    deployment["spec"]["template"]["spec"]["schedulerName"] = "nobody"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["name"] = "starting"
    stage.apply(deployment)
    url = f"{stage.gateways[0].url}/queryBaseline"
    bases = [base_of_node(node, "dev") for node in stage.nodes]

    def asked(number: int) -> tuple[int, str]:
        question = {"identity": bases[number], "name": "shop", "version": "1", "clusterName": "default"}
        return ask(url, method="POST", body=json.dumps(question).encode())

    expected = [{"bizName": "starting", "bizVersion": "0.0.1", "bizUrl": "https://repo.example/biz1-0.0.1.jar"}]
    eventually(lambda: json.loads(asked(0)[1]) == expected, within=20, what="a baseline with the module")
    replica = stage.replicas["cp-1"]
    with stage.undisturbed():
        replica.server.signal(signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(12) as pool:
                answers = list(pool.map(asked, range(12)))
        finally:
            replica.server.signal(signal.SIGCONT)
        stage.wait_settled(within=60)
    stage.delete("Deployment", "starting")
    assert [(code, json.loads(text)) for code, text in answers] == [(200, expected)] * 12


def test_a_replica_cut_off_from_the_api_server_only_loses_its_bases(stage: Stage) -> None:
    replica = stage.replicas["cp-2"]
    with stage.undisturbed():
        replica.api.cut()
        stage.wait_settled(*others("cp-2"), within=40)
        assert replica.control_plane.readiness()[0] == 503
        stage.work("while-cut-off")
        replica.api.mend()
        stage.wait_settled(within=60)
    assert replica.server.running


def test_a_replica_cut_off_from_the_gateways_only_gives_its_bases_away(stage: Stage) -> None:
    replica = stage.replicas["cp-1"]
    with stage.undisturbed():
        replica.tunnel.cut()
        stage.wait_settled(*others("cp-1"), within=60)
        stage.work("without-cp-1")
        replica.tunnel.mend()
        stage.wait_settled(within=60)


def test_an_api_server_that_is_away_for_longer_than_leases_last_changes_no_owner(stage: Stage) -> None:
    # Uneven shares would be evened out after the outage, which is no fault.
    stage.wait_even()
    before = {node: spec["holderIdentity"] for node, spec in stage.leases().items()}
    with stage.undisturbed(ready=False):
        stage.cluster.stop_apiserver()
        try:
            # Real time: leases of 40 s end meanwhile, by the clocks of all processes.
            time.sleep(70)
        finally:
            stage.cluster.start_apiserver()
        stage.wait_all_ready()
        stage.work("after-outage")
    after = {node: spec["holderIdentity"] for node, spec in stage.leases().items()}
    assert after == before, "no replica took from one that runs"


def test_a_clock_that_jumps_has_no_effect(stage: Stage) -> None:
    if FAKETIME is None:
        not_run("faketime", "libfaketime is not installed (Debian: apt install faketime)")
    replica = stage.replicas["cp-0"]
    clock = stage.programs.folder / "clock"
    clock.write_text("+0")
    replica.server.stop()
    faked = Replica(
        "cp-0",
        stage.cluster,
        stage.programs,
        stage.stack,
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        DONT_FAKE_MONOTONIC="1",
        FAKETIME_NO_CACHE="1",
        FAKETIME_TIMESTAMP_FILE=str(clock),
    )
    faked.control_plane.start()
    try:
        stage.wait_settled(within=60)
        for jump in ("-7200", "+7200"):
            with stage.undisturbed():
                clock.write_text(jump)
                node = next(node for node, spec in stage.leases().items() if spec["holderIdentity"] == "cp-0")
                stage.api.delete(f"{LEASES}/{node}")
                eventually(lambda node=node: node in stage.leases(), within=20, what="a new Lease")  # type: ignore[misc]
                stage.work(f"clock{jump.replace('+', 'p').replace('-', 'm')}")
                throughout(lambda: len(stage.leases()) == len(stage.nodes), seconds=5, what="all Leases stay")
    finally:
        faked.server.stop()


def test_a_second_process_of_one_name_is_refused(stage: Stage) -> None:
    second = ControlPlane(
        stage.programs,
        "second",
        CLIENT_ID="cp-1",
        **stage.cluster.environ(),
    )
    with stage.undisturbed():
        second.server.start()
        eventually(lambda: not second.server.running, within=40, what="the second process ended")
        output = second.server.tail()
        assert "CLIENT_ID=cp-1: another process" in output
        assert stage.replicas["cp-1"].address in output
        assert "give each replica a CLIENT_ID of its own" in output
        assert stage.replicas["cp-1"].server.running
        stage.wait_settled()


def test_leases_deleted_by_hand_come_back_with_higher_fences(stage: Stage) -> None:
    before = fences(stage)
    with stage.undisturbed():
        for node in stage.nodes[::3]:
            stage.api.delete(f"{LEASES}/{node}")
        stage.api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/module-controller-cp-2")
        eventually(lambda: stage.leases().keys() == before.keys(), within=30, what="all Leases back")
        stage.work("after-deletion")
        stage.wait_settled(within=60)
    after = fences(stage)
    assert all(after[node] > before[node] for node in stage.nodes[::3])


def test_results_lost_with_a_gateway_cause_no_second_install(stage: Stage) -> None:
    with stage.undisturbed():
        for replica in stage.replicas.values():
            replica.server.signal(signal.SIGSTOP)
        try:
            # Orders are on their way or not yet sent: in either case the next owner finds out.
            for node in stage.nodes:
                stage.install(node, "halfway")
            for replica in stage.replicas.values():
                replica.server.signal(signal.SIGCONT)
            time.sleep(0.05)
            for replica in stage.replicas.values():
                replica.server.signal(signal.SIGSTOP)
            time.sleep(1.0)
            for gateway in stage.all_gateways:
                gateway.server.stop(signal.SIGKILL)
        finally:
            for replica in stage.replicas.values():
                replica.server.signal(signal.SIGCONT)
        for gateway in stage.all_gateways:
            gateway.start()
        eventually(lambda: stage.pods_ready("halfway"), within=90, what="all installed")
    installs = {
        key: times for key, times in stage.orders().items() if key[2] == "halfway:0.0.1" and key[1] == "install"
    }
    assert len(installs) == len(stage.nodes)
    assert set(installs.values()) == {1}, f"installed twice: {installs}"
    for node in stage.nodes:
        stage.delete("Pod", f"halfway.{node}")
    eventually(lambda: len(stage.pods(leaving=True)) == len(stage.nodes), within=60, what="all removed")
