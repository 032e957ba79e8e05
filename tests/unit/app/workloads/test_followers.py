"""Deployments with the strategy peer follow the bases of the whole control plane."""

import asyncio

import pytest

from controlplane.app.policy import Policy
from controlplane.app.ports import Conflict, Rejected, Transient
from controlplane.cluster.api import DEPLOYMENTS, NODES, PODS, Json
from controlplane.domain.facts import BaselineQuery
from controlplane.domain.identity import BaseId
from tests.unit.app.harness import HOME, Api, Stage

pytestmark = pytest.mark.looptime

POLICY = Policy(replica="replica-0", env="dev", version="test", peers_follow=True)
DOMAIN = "virtual-kubelet.koupleless.io"
TOLERATIONS = [{"key": f"schedule.koupleless.io/{key}", "operator": "Exists"} for key in ("virtual-node", "node-env")]


def put_deployment(api: Api, name: str = "biz1", *, replicas: object = 1, **changes: object) -> None:
    """Put a peer Deployment; changes are labels (None removes one), tolerations, or spec: more rules of its Pods."""
    spec = changes.pop("spec", {})
    assert isinstance(spec, dict)
    labels = {
        f"{DOMAIN}/component": "module-deployment",
        f"{DOMAIN}/env": "dev",
        f"{DOMAIN}/strategy": "peer",
        **{f"{DOMAIN}/{k.replace('_', '-')}": v for k, v in changes.items() if k != "tolerations"},
    }
    api.put(
        DEPLOYMENTS,
        {
            "metadata": {
                "namespace": "default",
                "name": name,
                "uid": f"uid-{name}",
                "labels": {key: value for key, value in labels.items() if value is not None},
            },
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "spec": {
                        "containers": [
                            {
                                "name": name,
                                "image": f"https://repo.example/{name}.jar",
                                "env": [{"name": "BIZ_VERSION", "value": "1"}],
                            }
                        ],
                        "tolerations": changes.get("tolerations", TOLERATIONS),
                        **spec,
                    }
                },
            },
        },
    )


def replicas(stage: Stage, name: str = "biz1") -> object:
    deployment = stage.api.named(DEPLOYMENTS, name, "default")
    assert deployment is not None
    return deployment["spec"]["replicas"]


def scalings(stage: Stage) -> list[Json | None]:
    return [call.body for call in stage.api.made("patch") if call.subresource == "scale"]


async def with_bases(stage: Stage, number: int, *, seconds: float = 90.0) -> list[BaseId]:
    """Add bases, and wait until the replicas have settled."""
    bases = [stage.bases.add(f"b{n}") for n in range(number)]
    await asyncio.sleep(seconds)
    return bases


async def test_replicas_follow_bases_up_at_once_and_in_few_writes() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 20, seconds=5.0)
        assert replicas(stage) == 20
        assert len(scalings(stage)) <= 2
        assert "PeerReplicasChanged" in stage.reasons()
        events = [call.body or {} for call in api.made("create") if call.resource.kind == "Event"]
        involved = [event["involvedObject"] for event in events if event["reason"] == "PeerReplicasChanged"]
        assert involved[0] == {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "namespace": "default",
            "name": "biz1",
            "uid": "uid-biz1",
        }


async def test_a_base_that_is_gone_counts_for_a_while() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        bases = await with_bases(stage, 3)
        stage.bases.silence(bases[0])
        await asyncio.sleep(70.0)
        assert stage.node("b0") is None
        assert replicas(stage) == 3
        await asyncio.sleep(70.0)
        assert replicas(stage) == 2


async def test_a_base_that_flaps_changes_nothing() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        bases = await with_bases(stage, 3)
        api.calls.clear()
        for _ in range(5):
            stage.bases.silence(bases[0])
            await asyncio.sleep(90.0)
            assert stage.node("b0") is None
            stage.bases.add("b0")
            await asyncio.sleep(30.0)
        assert replicas(stage) == 3
        assert not scalings(stage)


async def test_an_idle_fleet_costs_no_write() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 5)
        api.calls.clear()
        await asyncio.sleep(1800.0)
        assert not scalings(stage)


async def test_without_bases_replicas_are_zero_until_the_next_base_comes() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        bases = await with_bases(stage, 2)
        stage.bases.silence(*bases)
        await asyncio.sleep(200.0)
        assert replicas(stage) == 0
        # A base that starts before its Node is known still gets the module.
        query = BaselineQuery("q", "shop", "1.0.0", "default", HOME)
        assert [c.name for c in stage.baselines.of(BaseId("b9"), query).modules] == ["biz1"]
        stage.bases.add("b9")
        await asyncio.sleep(5.0)
        assert replicas(stage) == 1


async def test_most_bases_silent_at_once_change_nothing() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        bases = await with_bases(stage, 10)
        api.calls.clear()
        stage.bases.silence(*bases[:8])
        await asyncio.sleep(600.0)
        assert stage.roster.outages.now.removals_frozen
        assert not scalings(stage)


async def test_without_a_gateway_nothing_changes() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 3)
        stage.disconnect()
        await asyncio.sleep(600.0)
        assert replicas(stage) == 3


async def test_after_a_restart_with_the_api_server_away_nothing_is_lowered() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 3)
    api.away = True
    api.calls.clear()
    async with Stage(api, POLICY).running() as stage:
        for base in range(3):
            stage.bases.add(f"b{base}")
        await asyncio.sleep(120.0)
        api.away = False
        await asyncio.sleep(300.0)
        assert replicas(stage) == 3
        assert not scalings(stage)


async def test_nodes_deleted_by_mistake_lower_no_replicas() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 4)
        api.calls.clear()
        for base in range(4):
            api.remove(NODES, f"vnode.b{base}.dev")
        await asyncio.sleep(300.0)
        assert stage.node("b3") is not None
        assert not scalings(stage)


async def test_a_cordoned_node_keeps_its_replica_and_gets_no_new_one() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 2)
        stage.put_pod("p0", base="b0", module="biz1")
        pod = stage.pod("p0")
        assert pod is not None
        pod["metadata"]["labels"]["app"] = "biz1"
        api.put(PODS, pod)
        node = stage.node("b0")
        assert node is not None
        api.put(NODES, {**node, "spec": {**node["spec"], "unschedulable": True}})
        await asyncio.sleep(200.0)
        assert replicas(stage) == 2
        stage.delete_pod("p0")
        await asyncio.sleep(100.0)
        assert replicas(stage) == 1


async def test_bad_deployments_harm_nobody() -> None:
    api = Api()
    put_deployment(api)
    put_deployment(api, "null", replicas=None)
    put_deployment(api, "huge", replicas=2_147_483_647)
    put_deployment(api, "odd", replicas="three")
    put_deployment(api, "no-env", env=None)
    put_deployment(api, "other-env", env="prod")
    put_deployment(api, "own", replicas_control="true")
    put_deployment(api, "plain", strategy="scalable")
    put_deployment(api, "nowhere", replicas=5, tolerations=[])
    api.put(
        DEPLOYMENTS,
        {
            "metadata": {
                "namespace": "default",
                "name": "empty",
                "labels": {
                    f"{DOMAIN}/component": "module-deployment",
                    f"{DOMAIN}/env": "dev",
                    f"{DOMAIN}/strategy": "peer",
                },
            },
            "spec": {"replicas": 1},
        },
    )
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 3, seconds=150.0)
        names = ("biz1", "null", "huge", "odd", "no-env", "other-env", "own", "plain", "nowhere", "empty")
        assert {name: replicas(stage, name) for name in names} == {
            "biz1": 3,
            "null": 3,
            "huge": 3,
            "odd": 3,
            "no-env": 1,
            "other-env": 1,
            "own": 1,
            "plain": 1,
            "nowhere": 0,
            "empty": 0,
        }
        assert stage.reasons().count("PeerDeploymentIgnored") == 1


async def test_failed_writes_are_retried_and_a_refusal_is_reported() -> None:
    api = Api()
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 3, seconds=20.0)
        for error in (Conflict("changed"), Transient("away"), Rejected("forbidden: deployments/scale")):
            put_deployment(api)
            api.fail_scale = error
            await asyncio.sleep(10.0)
            assert replicas(stage) == 3
        assert stage.reasons().count("PeerReplicasNotChanged") == 1
        assert stage.reasons().count("PeerReplicasChanged") == 3


async def test_only_the_responsible_replica_writes() -> None:
    api = Api()
    put_deployment(api)
    stage = Stage(api, POLICY)
    mine: set[str] = set()
    stage.peers = stage.new_peers(mine.__contains__)
    async with stage.running():
        await with_bases(stage, 3)
        assert not scalings(stage)
        mine.add("default/biz1")
        await asyncio.sleep(15.0)
        assert replicas(stage) == 3


async def test_replicas_that_others_set_are_corrected() -> None:
    api = Api()
    put_deployment(api)
    async with Stage(api, POLICY).running() as stage:
        await with_bases(stage, 3)
        for asked in (1, 0, 7):
            put_deployment(api, replicas=asked)
            await asyncio.sleep(5.0)
            assert replicas(stage) == 3


async def test_a_baseline_follows_its_deployments() -> None:
    async with Stage(Api()).running() as stage:
        query = BaselineQuery("q", "shop", "1.0.0", "default", HOME)

        def given() -> list[str]:
            return [c.name for c in stage.baselines.of(BaseId("b9"), query).modules]

        put_deployment(stage.api)
        put_deployment(stage.api, "biz2", replicas=0)
        await asyncio.sleep(1.0)
        # The controller is off: nobody will raise what stands at 0.
        assert given() == ["biz1"]
        put_deployment(stage.api, "biz1", env="prod")
        put_deployment(stage.api, "biz2")
        await asyncio.sleep(1.0)
        assert given() == ["biz2"]
        stage.api.remove(DEPLOYMENTS, "biz2", "default")
        await asyncio.sleep(1.0)
        assert given() == []
