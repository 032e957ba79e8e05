"""Questions of starting bases are answered by one replica, by all when repeated, and computed once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from unittest import mock

import pytest
from prometheus_client import REGISTRY

from controlplane.app.policy import Policy
from controlplane.app.workloads import baselines
from controlplane.cluster.api import DEPLOYMENTS, NODES, Json
from controlplane.domain.facts import BaselineQuery, TunnelKind, Way
from controlplane.domain.identity import BaseId
from controlplane.domain.workloads.baselines import Offer
from tests.unit.app.harness import HOME, Api, Stage
from tests.unit.app.workloads.test_followers import put_deployment

pytestmark = pytest.mark.looptime

MQTT = Way(TunnelKind.MQTT)
BASES = [BaseId(f"b{number}") for number in range(30)]


def query(number: int = 0, way: Way = MQTT) -> BaselineQuery:
    return BaselineQuery(f"q{number}", "shop", "1.0.0", "default", way)


@asynccontextmanager
async def replicas(*names: str, nodes: bool = True) -> AsyncIterator[dict[str, Stage]]:
    """Replicas that one gateway is connected to, one Deployment, and Nodes of bases that nobody owns."""
    api = Api()
    put_deployment(api)
    async with AsyncExitStack() as stack:
        stages = {}
        for name in names:
            stage = Stage(api, Policy(replica=name, env="dev", version="test"), sole=False)
            stages[name] = await stack.enter_async_context(stage.running())
        for base in BASES if nodes else ():
            stages[names[0]].put_node(base)
        # Replicas publish which tunnels they reach.
        await asyncio.sleep(5.0)
        yield stages


def ask(stages: dict[str, Stage], base: BaseId, asked: BaselineQuery) -> list[str]:
    """Ask all replicas, as the gateway does of a base without an owner; return who answered."""
    answered = []
    for name, stage in stages.items():
        before = len(stage.link.baselines)
        stage.router.report(stage.link, base, asked)
        answered += [name] * (len(stage.link.baselines) - before)
    return answered


async def test_one_replica_answers_each_base_and_all_take_part() -> None:
    async with replicas("r0", "r1", "r2") as stages:
        answers = [ask(stages, base, query()) for base in BASES]
        assert all(len(answered) == 1 for answered in answers)
        assert {answered[0] for answered in answers} == {"r0", "r1", "r2"}


async def test_a_repeated_question_is_answered_by_all() -> None:
    async with replicas("r0", "r1", "r2") as stages:
        for base in BASES:
            (first,) = ask(stages, base, query())
            # The answer was lost: the replica that gave it may be gone, and nobody has noticed yet.
            others = {name: stage for name, stage in stages.items() if name != first}
            assert ask(others, base, query()) == list(others)
            # The next question of the base is another one.
            assert len(ask(stages, base, query(2))) == 1


async def test_the_owner_answers_for_its_base_and_nobody_else() -> None:
    async with replicas("r0", "r1", "r2", nodes=False) as stages:
        for stage in stages.values():
            for base in BASES:
                stage.bases.add(base)
        await asyncio.sleep(10.0)
        owners = {base: name for name, stage in stages.items() for base in BASES if stage.roster.get(base) is not None}
        assert owners.keys() == set(BASES)
        assert all(ask(stages, base, query()) == [owners[base]] for base in BASES)


async def test_who_may_become_the_owner_knows_the_baseline_that_the_owner_gave() -> None:
    """An owner that does not know the baseline would never remove a module of it that gets no Pod."""
    async with replicas("r0", "r1", "r2", nodes=False) as stages:
        base = BASES[0]
        for stage in stages.values():
            stage.bases.add(base)
        await asyncio.sleep(10.0)
        (owner,) = ask(stages, base, query())
        for name, stage in stages.items():
            known, given = stage.roster.get(base), stage.roster.given(base)
            assert (name == owner) is (known is not None) is (given is None)


async def test_nobody_but_the_base_is_given_its_baseline_and_not_before_it_was_examined() -> None:
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        early, stranger = _refused("baseline-too-early"), _refused("baseline-stranger")
        stage.router.report(stage.link, BaseId("b1"), query(way=HOME))
        assert stage.link.baselines == []
        stage.bases.add("b1")
        await asyncio.sleep(1.0)
        ((_, answered, given),) = stage.link.baselines
        assert (answered, [module.name for module in given.modules]) == ("q0", ["biz1"])
        for way in (Way(peer="10.0.0.66"), Way()):
            stage.router.report(stage.link, BaseId("b1"), query(1, way))
        assert len(stage.link.baselines) == 1
        assert _refused("baseline-too-early") == early + 1
        assert _refused("baseline-stranger") == stranger + 2


async def test_without_deployments_a_question_is_refused_and_counted() -> None:
    api = Api()
    api.away = True
    async with Stage(api).running() as stage:
        before = _refused("not-ready")
        stage.router.report(stage.link, BASES[0], query())
        assert stage.link.baselines == []
        assert _refused("not-ready") == before + 1


def _refused(reason: str) -> float:
    return REGISTRY.get_sample_value("koupleless_refused_reports_total", {"reason": reason}) or 0.0


async def test_many_questions_are_computed_once_until_a_deployment_changes() -> None:
    api = Api()
    for number in range(20):
        put_deployment(api, f"biz{number}")
    async with Stage(api).running() as stage:
        with mock.patch.object(baselines, "Offer", wraps=Offer) as made:
            for number in range(500):
                stage.put_node(f"s{number}")
            await asyncio.sleep(1.0)
            for number in range(500):
                stage.router.report(stage.link, BaseId(f"s{number}"), query(number))
            assert made.call_count == 1
            assert len({id(given) for _, _, given in stage.link.baselines}) == 1
            # A change of the status alone does not change the offer.
            deployment = api.named(DEPLOYMENTS, "biz1", "default")
            assert deployment is not None
            api.put(DEPLOYMENTS, {**deployment, "status": {"readyReplicas": 7}})
            await asyncio.sleep(1.0)
            assert len(stage.baselines.of(BaseId("s1"), query()).modules) == 20
            assert made.call_count == 1
            api.remove(DEPLOYMENTS, "biz1", "default")
            await asyncio.sleep(1.0)
            assert len(stage.baselines.of(BaseId("s1"), query()).modules) == 19
            assert made.call_count == 2


async def test_the_baseline_of_a_restarted_base_follows_its_node() -> None:
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        assert [module.name for module in stage.baselines.of(base, query()).modules] == ["biz1"]
        node = stage.node()
        assert node is not None
        spec: Json = {**node["spec"], "unschedulable": True}
        stage.api.put(NODES, {**node, "spec": spec})
        await asyncio.sleep(1.0)
        assert stage.baselines.of(base, query()).modules == ()
        node["metadata"]["labels"]["tier"] = "a"
        stage.api.put(NODES, node)
        put_deployment(stage.api, "biz2", spec={"nodeSelector": {"tier": "a"}})
        put_deployment(stage.api, "biz3", spec={"nodeSelector": {"tier": "b"}})
        await asyncio.sleep(1.0)
        assert [module.name for module in stage.baselines.of(base, query()).modules] == [
            "biz1",
            "biz2",
        ]


async def test_the_baseline_of_a_base_whose_node_was_removed_follows_what_the_node_had() -> None:
    async with Stage(Api()).running() as stage:
        put_deployment(stage.api)
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        node = stage.node()
        assert node is not None
        stage.api.put(NODES, {**node, "spec": {**node["spec"], "unschedulable": True}})
        await asyncio.sleep(1.0)
        stage.bases.silence(base)
        await asyncio.sleep(90.0)
        assert stage.node() is None
        assert stage.baselines.of(base, query()).modules == ()


async def test_ignored_deployments_are_reported_once() -> None:
    api = Api()
    unknown = {"tolerations": [{"key": "k", "operator": "Gt", "value": "5"}]}
    put_deployment(api, "odd", spec=unknown, replicas=3)
    put_deployment(api, "plain", strategy=None, spec=unknown)
    put_deployment(api, "foreign", env="prod", spec=unknown)
    put_deployment(api, "vague", env=None, replicas=4)
    put_deployment(api)
    async with Stage(api, Policy(replica="replica-0", env="dev", version="test", peers_follow=True)).running() as stage:
        for base in BASES[:2]:
            stage.bases.add(base)
        await asyncio.sleep(200.0)
        reported = {h.deployment: h for h in stage.recorder.recent() if h.remark.reason == "DeploymentNotUnderstood"}
        assert reported.keys() == {"default/odd", "default/plain"}
        message = reported["default/odd"].remark.message
        assert (
            'spec.tolerations[0].operator (Unsupported value: "Gt": supported values: "Equal", "Exists") is not'
            in message
        )
        assert "its replicas are left as they are" in message
        assert "replicas" not in reported["default/plain"].remark.message
        assert stage.reasons().count("DeploymentNotUnderstood") == 2
        assert stage.reasons().count("PeerDeploymentIgnored") == 1
        assert [module.name for module in stage.baselines.of(BASES[0], query()).modules] == ["biz1"]
        for name, replicas in (("odd", 3), ("vague", 4), ("biz1", 2)):
            obj = api.named(DEPLOYMENTS, name, "default")
            assert obj is not None
            assert obj["spec"]["replicas"] == replicas
        assert REGISTRY.get_sample_value("koupleless_deployments_ignored") == 3
        # Once corrected it is followed; broken again, it is reported again.
        put_deployment(api, "odd", replicas=3)
        await asyncio.sleep(100.0)
        obj = api.named(DEPLOYMENTS, "odd", "default")
        assert obj is not None
        assert obj["spec"]["replicas"] == 2
        put_deployment(api, "odd", spec=unknown, replicas=2)
        await asyncio.sleep(20.0)
        assert stage.reasons().count("DeploymentNotUnderstood") == 3


async def test_one_replica_of_several_reports_ignored_deployments() -> None:
    async with replicas("r0", "r1", "r2") as stages:
        put_deployment(stages["r0"].api, "odd", spec={"tolerations": [{"key": "k", "operator": "Gt", "value": "5"}]})
        await asyncio.sleep(30.0)
        reporters = [name for name, stage in stages.items() if "DeploymentNotUnderstood" in stage.reasons()]
        assert len(reporters) == 1
