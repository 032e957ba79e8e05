"""A base becomes a VNode, which is removed with the base and for no other reason."""

import asyncio
import gc
from unittest.mock import Mock

import pytest

from controlplane.app.base.node import STATUS_REFRESH
from controlplane.cluster.api import LEASES, NODES, PODS
from controlplane.domain.base import vnode
from controlplane.domain.facts import BaseState, Heartbeat
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import NodeStatus
from tests.unit.app.harness import ADDRESS, Api, Stage

pytestmark = pytest.mark.looptime


async def test_a_heartbeat_becomes_a_lease_a_node_a_claim_and_a_watch() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(1.0)
        lease, node = stage.lease(), stage.node()
        assert lease is not None
        assert node is not None
        assert lease["spec"]["holderIdentity"] == "replica-0"
        assert lease["metadata"]["labels"]["virtual-kubelet.koupleless.io/component"] == "vnode-lease"
        labels = node["metadata"]["labels"]
        assert labels["base.koupleless.io/name"] == "shop"
        assert labels["base.koupleless.io/version"] == "1.0.0"
        assert labels["base.koupleless.io/cluster-name"] == "default"
        assert labels["base.koupleless.io/host-name"] == "shop-0"
        assert labels["base.koupleless.io/tunnel-port"] == "1238"
        assert labels["virtual-kubelet.koupleless.io/component"] == "vnode"
        assert labels["virtual-kubelet.koupleless.io/env"] == "dev"
        assert {(t["key"], t["value"], t["effect"]) for t in node["spec"]["taints"]} == {
            ("schedule.koupleless.io/virtual-node", "True", "NoExecute"),
            ("schedule.koupleless.io/node-env", "dev", "NoExecute"),
        }
        assert {"type": "InternalIP", "address": "10.0.0.7"} in node["status"]["addresses"]
        assert stage.ready("node", "b1") == "True"
        fence = lease["spec"]["leaseTransitions"]
        assert stage.link.claims == {"b1": fence}
        assert stage.link.watches[0].fence == fence
        assert "VNodeCreated" in stage.reasons()


async def test_an_idle_base_costs_a_lease_renewal_every_ten_seconds_and_a_status_every_five_minutes() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(10.0)
        stage.api.calls.clear()
        await asyncio.sleep(600.0)
        patches = stage.api.made("patch")
        member = [call for call in patches if call.subject == "default/module-controller-replica-0"]
        patches = [call for call in patches if call not in member]
        leases = [call for call in patches if call.resource.kind == "Lease"]
        assert all(call.urgent for call in leases)
        assert 54 <= len(leases) <= 67
        assert 1 <= len(patches) - len(leases) <= 3
        assert not stage.api.made("get")


async def test_a_silent_base_turns_not_ready_after_25_s_and_is_gone_after_60_s() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        assert stage.ready("pod", "p") == "True"
        stage.bases.silence(base)
        await asyncio.sleep(30.0)
        assert stage.ready("node", "b1") == "False"
        assert stage.ready("pod", "p") == "False"
        await asyncio.sleep(35.0)
        assert stage.node() is None
        lease = stage.lease()
        assert lease is not None, "the base may come back with the module that we installed"
        assert lease["spec"]["holderIdentity"] == ""
        assert stage.link.released == ["b1"]
        assert stage.link.unwatched == ["b1"]


async def test_the_lease_of_a_base_without_modules_of_ours_goes_with_it() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.silence(base)
        await asyncio.sleep(65.0)
        assert stage.node() is None
        assert stage.lease() is None


async def test_a_base_that_answers_again_is_ready_again_and_nothing_is_installed_twice() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.silence(base)
        await asyncio.sleep(40.0)
        stage.bases.add("b1")
        await asyncio.sleep(2.0)
        assert stage.ready("node", "b1") == "True"
        assert stage.ready("pod", "p") == "True"
        assert len(stage.bases.installs) == 1


async def test_a_deactivated_base_is_gone_promptly_and_may_come_back_with_a_higher_fence() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(2.0)
        fence = stage.link.claims[base]
        stage.bases.leave(base)
        await asyncio.sleep(3.0)
        assert stage.node() is None
        await asyncio.sleep(2.0)
        stage.bases.add("b1")
        await asyncio.sleep(2.0)
        assert stage.ready("node", "b1") == "True"
        assert stage.link.claims[base] > fence


async def test_a_goodbye_in_the_name_of_a_base_that_answers_removes_nothing() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(2.0)
        for _ in range(100):
            stage.bases.heartbeat("b1", state=BaseState.DEACTIVATED)
            await asyncio.sleep(1.0)
        assert stage.ready("node", base) == "True"
        assert stage.reasons().count("VNodeRemoved") == 0


async def test_a_goodbye_from_another_peer_has_the_base_not_even_asked() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(2.0)
        epoch = stage.bases.watches[base].epoch
        for _ in range(3):
            stage.bases.heartbeat("b1", state=BaseState.DEACTIVATED, peer="10.0.0.66")
            await asyncio.sleep(1.0)
        assert stage.bases.watches[base].epoch == epoch
        (refused,) = [h.remark.message for h in stage.recorder.recent() if h.remark.reason == "GoodbyeRefused"]
        assert "10.0.0.66" in refused


@pytest.mark.parametrize(("returns", "gone"), [(True, False), (False, True)], ids=["it came back", "it did not"])
async def test_a_goodbye_counts_from_when_the_base_can_be_heard_again(returns: bool, gone: bool) -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.leave(base)
        await asyncio.sleep(0.5)
        stage.disconnect()
        await asyncio.sleep(15.0)
        if returns:
            stage.bases.stopped.remove(base)
            stage.bases.alive.add(base)
        stage.connect()
        await asyncio.sleep(1.0)
        assert stage.ready("node", "b1") == "True"
        await asyncio.sleep(5.0)
        assert (stage.node() is None) is gone


async def test_a_goodbye_of_a_base_that_is_not_managed_does_not_keep_it_from_being_managed() -> None:
    stage = Stage(Api())
    stage.bases.heartbeat("b1")
    stage.bases.heartbeat("b1", state=BaseState.DEACTIVATED, peer="10.0.0.66")
    async with stage.running():
        assert BaseId("b1") in stage.bases.watches


async def test_pods_of_a_deactivated_base_are_not_ready_before_its_node_is_gone() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        assert stage.ready("pod", "p") == "True"
        stage.api.calls.clear()
        stage.bases.leave(base)
        await asyncio.sleep(3.0)
        assert stage.node() is None
        pod = stage.pod("p")
        assert pod is not None
        (ready,) = (c for c in pod["status"]["conditions"] if c["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "BaseUnreachable")
        verbs = [call.verb for call in stage.api.calls if call.resource in (PODS, NODES)]
        assert verbs.index("patch") < verbs.index("delete")


async def test_without_a_gateway_nothing_is_removed_and_the_node_says_why() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.disconnect()
        await asyncio.sleep(300.0)
        node = stage.node()
        assert node is not None
        assert stage.ready("node", "b1") == "True"
        tunnel = next(c for c in node["status"]["conditions"] if c["type"] == "TunnelAvailable")
        assert (tunnel["status"], tunnel["message"]) == ("False", "no http gateway is connected")
        stage.connect()
        await asyncio.sleep(14.0)
        node = stage.node()
        assert node is not None
        assert next(c for c in node["status"]["conditions"] if c["type"] == "TunnelAvailable")["status"] == "True"
        assert "BaseUnreachable" not in stage.reasons()


async def test_while_the_api_server_is_away_nothing_is_lost() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.api.away = True
        await asyncio.sleep(90.0)
        sent = len(stage.link.orders)
        stage.api.away = False
        await asyncio.sleep(30.0)
        assert stage.ready("node", "b1") == "True"
        assert stage.ready("pod", "p") == "True"
        assert len(stage.link.orders) == sent == 1
        stage.delete_pod("p")
        await asyncio.sleep(5.0)
        assert stage.pod("p") is None


async def test_most_bases_silent_at_once_are_not_removed() -> None:
    async with Stage(Api()).running() as stage:
        bases = [stage.bases.add(f"b{n}") for n in range(6)]
        await asyncio.sleep(5.0)
        stage.bases.silence(*bases)
        await asyncio.sleep(200.0)
        assert all(stage.node(base) is not None for base in bases)
        assert {stage.ready("node", base) for base in bases} == {"False"}
        for base in bases[:3]:
            stage.bases.add(base)
        await asyncio.sleep(5.0)
        assert [stage.node(base) is not None for base in bases] == [True] * 3 + [False] * 3


async def test_a_node_removed_by_hand_comes_back_while_its_base_is_alive() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.api.remove(NODES, "vnode.b1.dev")
        await asyncio.sleep(2.0)
        assert stage.ready("node", base) == "True"


async def test_a_current_node_is_compared_only_when_something_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(40.0)
        compare = Mock(wraps=vnode.metadata_differs)
        monkeypatch.setattr(vnode, "metadata_differs", compare)
        await asyncio.sleep(200.0)
        compare.assert_not_called()
        node = stage.node()
        assert node is not None
        node["metadata"]["labels"]["base.koupleless.io/version"] = "9"
        stage.api.put(NODES, node)
        await asyncio.sleep(1.0)
        compare.assert_called()
        node = stage.node()
        assert node is not None
        assert node["metadata"]["labels"]["base.koupleless.io/version"] == "1.0.0"


async def test_a_base_with_a_new_version_keeps_its_node_with_new_labels() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(2.0)
        before = stage.node()
        heartbeat = Heartbeat("shop", "2.0.0", "default", "shop-0", ADDRESS, BaseState.ACTIVATED)
        stage.router.report(stage.link, BaseId("b1"), heartbeat)
        await asyncio.sleep(0.5)
        after = stage.node()
        assert before is not None
        assert after is not None
        assert after["metadata"]["labels"]["base.koupleless.io/version"] == "2.0.0"
        assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_lease_left_behind_without_a_node_is_removed() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(2.0)
    api.remove(NODES, "vnode.b1.dev")
    async with Stage(api).running() as stage:
        await asyncio.sleep(100.0)
        assert stage.lease() is not None
        await asyncio.sleep(30.0)
        assert stage.lease() is None


async def test_a_lease_deleted_by_hand_is_taken_anew_with_a_higher_fence() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(2.0)
        fence = stage.link.claims[base]
        stage.api.remove(LEASES, "vnode.b1.dev", "kube-node-lease")
        await asyncio.sleep(40.0)
        assert stage.lease() is not None
        assert stage.link.claims[base] > fence
        assert stage.ready("node", "b1") == "True"


async def test_a_lease_taken_by_somebody_else_ends_our_term() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(2.0)
        lease = stage.lease()
        assert lease is not None
        lease["spec"] |= {"holderIdentity": "somebody", "leaseTransitions": lease["spec"]["leaseTransitions"] + 1}
        stage.api.put(LEASES, lease)
        await asyncio.sleep(15.0)
        stage.put_pod("p")
        await asyncio.sleep(10.0)
        assert stage.link.orders == []
        assert stage.node() is not None


def times(stage: Stage, name: str) -> set[str]:
    """Return the times of that name in the conditions of the Node."""
    node = stage.node()
    assert node is not None
    return {condition[name] for condition in node["status"]["conditions"]}


async def test_a_status_that_is_refreshed_keeps_its_transition_times() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        transitions, heartbeats = times(stage, "lastTransitionTime"), times(stage, "lastHeartbeatTime")
        await asyncio.sleep(2 * STATUS_REFRESH)
        assert times(stage, "lastTransitionTime") == transitions
        assert min(times(stage, "lastHeartbeatTime")) > max(heartbeats)


async def test_a_status_is_in_memory_once_after_it_was_refreshed_too() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("refreshed")
        await asyncio.sleep(2 * STATUS_REFRESH)
        gc.collect()
        statuses = [each for each in gc.get_objects() if isinstance(each, NodeStatus)]
        assert [each.machine_id for each in statuses].count("refreshed") == 1
