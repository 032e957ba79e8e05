"""A base that commands do not reach is no Node, or not Ready with a reason; heartbeats alone do not count."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from controlplane.app.policy import Policy
from controlplane.app.ports import Transient
from controlplane.cluster.api import LEASES, NODES, PODS, Json
from controlplane.domain.base.vnode import NodePolicy
from controlplane.domain.facts import (
    BaselineQuery,
    BaseState,
    Health,
    Metaspace,
    ModuleList,
    ModuleState,
    PollFailed,
    PollFailure,
    Verb,
)
from controlplane.domain.identity import BaseId, ModuleKey
from tests.fakes.apiserver import Call
from tests.fakes.gateway import FakeLink
from tests.unit.app.harness import HOME, Api, Stage
from tests.unit.app.workloads.test_followers import put_deployment

pytestmark = pytest.mark.looptime

REFUSED = PollFailed("no connection: Connection refused", failure=PollFailure.NOT_CONNECTED)


class OneWayStage(Stage):
    """A stage whose gateway receives heartbeats of some bases, but cannot call them."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.unreachable: set[str] = set()
        self.failure = REFUSED
        poll = self.bases.poll

        def poll_or_fail(base: BaseId) -> None:
            if base in self.unreachable:
                self.router.report(self.link, base, self.failure)
            else:
                poll(base)

        self.bases.poll = poll_or_fail  # type: ignore[method-assign]


def condition(node: Json | None, kind: str) -> tuple[str, str]:
    assert node is not None
    found = next(c for c in node["status"]["conditions"] if c["type"] == kind)
    return found["status"], found["message"]


async def test_a_base_that_commands_do_not_reach_does_not_become_a_node() -> None:
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        stage.unreachable.add("b1")
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        base = stage.roster.get(BaseId("b1"))
        assert base is not None
        assert base.why == "it has not answered a command yet: 10.0.0.7:1238: no connection: Connection refused"
        await asyncio.sleep(35.0)
        assert stage.node() is None
        base = stage.roster.get(BaseId("b1"))
        assert base is not None
        assert "10.0.0.7:1238 does not answer commands since 2026-" in base.why
        assert "Connection refused" in base.why
        events = [event for event in stage.api._objects.values() if event.get("kind") == "Event"]
        (reported,) = (event for event in events if event["reason"] == "BaseUnreachable")
        assert reported["involvedObject"]["name"] == "vnode.b1.dev"
        assert "10.0.0.7:1238" in reported["message"]
        await asyncio.sleep(300.0)
        assert stage.reasons().count("BaseUnreachable") == 1, "reported once"
        stage.unreachable.clear()
        await asyncio.sleep(13.0)
        assert stage.ready("node", "b1") == "True"


@pytest.mark.parametrize(
    "failure", [PollFailure.NOT_CONNECTED, PollFailure.NO_ANSWER, PollFailure.NOT_A_BASE, PollFailure.NEGATIVE]
)
async def test_a_node_is_ready_only_while_commands_arrive(failure: PollFailure) -> None:
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.failure = PollFailed("why", failure=failure)
        stage.unreachable.add("b1")
        await asyncio.sleep(45.0)
        status, message = condition(stage.node(), "Ready")
        assert status == "False"
        assert "10.0.0.7:1238 does not answer commands since" in message
        assert message.endswith(": why")
        assert stage.ready("pod", "p") == "False"
        await asyncio.sleep(600.0)
        assert stage.node() is not None, "it sends heartbeats: it is not dead"
        stage.unreachable.clear()
        await asyncio.sleep(13.0)
        assert (stage.ready("node", "b1"), stage.ready("pod", "p")) == ("True", "True")
        assert len(stage.bases.installs) == 1


async def test_a_base_without_heartbeats_and_answers_is_dead() -> None:
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.unreachable.add("b1")
        await asyncio.sleep(100.0)
        stage.bases.silence(base)
        await asyncio.sleep(80.0)
        assert stage.node() is None


async def test_a_base_that_is_busy_with_an_order_may_be_slow_to_answer() -> None:
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.bases.answer[Verb.INSTALL] = None
        stage.put_pod("p")
        stage.failure = PollFailed("no answer within 10 s", failure=PollFailure.NO_ANSWER)
        stage.unreachable.add("b1")
        await asyncio.sleep(120.0)
        assert stage.ready("node", "b1") == "True"


async def test_a_failure_of_the_gateway_does_not_count_against_the_base() -> None:
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.failure = PollFailed("the gateway failed: KeyError")
        stage.unreachable.add("b1")
        await asyncio.sleep(120.0)
        assert stage.ready("node", "b1") == "True"


async def test_while_commands_to_most_bases_fail_nodes_stay_ready_and_say_so() -> None:
    """The fault is then with the gateways: modules that serve must stay in service."""
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        bases = [stage.bases.add(f"b{n}") for n in range(8)]
        await asyncio.sleep(5.0)
        stage.unreachable |= set(bases)
        await asyncio.sleep(120.0)
        assert {stage.ready("node", base) for base in bases} == {"True"}
        status, message = condition(stage.node("b3"), "TunnelAvailable")
        assert (status, "commands to most bases fail" in message) == ("False", True)
        assert stage.reasons().count("CommandsFail") == 1
        stage.unreachable -= set(bases[2:])
        await asyncio.sleep(40.0)
        assert [stage.ready("node", base) for base in bases] == ["False"] * 2 + ["True"] * 6
        assert condition(stage.node("b3"), "TunnelAvailable")[0] == "True"


async def test_another_gateway_is_asked_before_a_base_counts_as_unreachable() -> None:
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.unreachable.add("b1")

        def answer(watch: object) -> None:
            listed = ModuleList((), complete=True, unchanged=False, epoch=watch.epoch)  # type: ignore[attr-defined]
            asyncio.get_running_loop().call_soon(stage.router.report, other, base, listed)

        other = FakeLink("other", on_watch=answer)
        stage.gateways.connected(other)
        await asyncio.sleep(60.0)
        assert stage.ready("node", "b1") == "True"
        assert [watch.base for watch in other.watches][:1] == ["b1"]
        assert "BaseUnreachable" not in stage.reasons()


async def test_after_an_absence_a_heartbeat_alone_makes_no_pod_ready() -> None:
    """The JVM may be a new one without modules: what was there before is trusted once the base has listed it."""
    async with OneWayStage(Api()).running() as stage:
        assert isinstance(stage, OneWayStage)
        base = stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.bases.silence(base)
        await asyncio.sleep(40.0)
        assert (stage.ready("node", "b1"), stage.ready("pod", "p")) == ("False", "False")
        stage.bases.modules[base].clear()
        stage.unreachable.add("b1")
        stage.bases.alive.add(base)
        for _ in range(20):
            stage.bases.heartbeat("b1")
            await asyncio.sleep(1.0)
            assert (stage.ready("node", "b1"), stage.ready("pod", "p")) == ("False", "False")
        stage.unreachable.clear()
        stage.bases.answer[Verb.INSTALL] = None
        await asyncio.sleep(13.0)
        assert (stage.ready("node", "b1"), stage.ready("pod", "p")) == ("True", "False")
        assert len(stage.bases.installs) == 2


@pytest.mark.parametrize("first", ["list", "health"])
async def test_what_the_base_uses_itself_is_not_allocatable_whichever_answer_comes_first(first: str) -> None:
    mi = 1024 * 1024
    health = Health(BaseState.ACTIVATED, Metaspace(used=60 * mi, max=256 * mi), "17")
    stage = Stage(Api())
    stage.bases.poll = lambda base: None  # type: ignore[method-assign]
    async with stage.running():
        stage.bases.add("b1")
        await asyncio.sleep(1.0)
        epoch = stage.bases.watches[BaseId("b1")].epoch
        listed = ModuleList((), complete=True, unchanged=False, epoch=epoch)
        answers: list[Callable[[], None]] = [
            lambda: stage.router.report(stage.link, BaseId("b1"), listed),
            lambda: stage.router.report(stage.link, BaseId("b1"), health),
        ]
        for answer in answers if first == "list" else reversed(answers):
            answer()
            await asyncio.sleep(0.5)
        node = stage.node()
        assert node is not None
        assert (node["status"]["capacity"]["memory"], node["status"]["allocatable"]["memory"]) == ("256Mi", "196Mi")


async def test_cpus_are_those_that_the_base_reported_last_and_what_is_offered_where_it_reports_none() -> None:
    def health(cpus: int) -> Health:
        return Health(BaseState.ACTIVATED, Metaspace(used=1, max=-1), "17", cpus)

    api = Api()
    policy = Policy(replica="replica-0", env="dev", version="test", nodes=NodePolicy({"cpu": "1k"}))
    stage = Stage(api, policy)
    stage.bases.poll = lambda base: stage.router.report(  # type: ignore[method-assign]
        stage.link, base, ModuleList((), complete=True, unchanged=False, epoch=stage.bases.watches[base].epoch)
    )

    def cpu(of: Stage) -> str:
        return str((of.node() or {})["status"]["capacity"]["cpu"])

    async with stage.running():
        stage.bases.add("b1")
        for cpus, shown in ((0, "1k"), (4, "4"), (0, "4"), (2000, "2k")):
            await asyncio.sleep(1.0)
            stage.router.report(stage.link, BaseId("b1"), health(cpus))
            await asyncio.sleep(11.0)
            assert cpu(stage) == shown
    later = Stage(api, policy)
    later.bases.poll = lambda base: None  # type: ignore[method-assign]
    async with later.running():
        later.bases.add("b1")
        await asyncio.sleep(15.0)
        assert cpu(later) == "2k", "as the Node says, until the base has answered"
        later.router.report(later.link, BaseId("b1"), health(0))
        await asyncio.sleep(11.0)
        assert cpu(later) == "1k"


async def test_modules_that_are_there_before_their_pods_count_as_what_these_request() -> None:
    """A base that started with a baseline never reports what it uses without modules."""
    mi = 1024 * 1024
    base, key = BaseId("b1"), ModuleKey("biz1", "1")
    health = Health(BaseState.ACTIVATED, Metaspace(used=100 * mi, max=256 * mi), "17")
    stage = Stage(Api())
    async with stage.running():
        put_deployment(stage.api)
        await asyncio.sleep(1.0)
        stage.router.report(stage.link, base, BaselineQuery("q", "shop", "1.0.0", "default", HOME))
        stage.bases.add("b1")
        stage.bases.modules[base][key] = ModuleState.ACTIVATED
        await asyncio.sleep(5.0)
        stage.router.report(stage.link, base, health)
        await asyncio.sleep(5.0)
        node = stage.node()
        assert node is not None
        assert node["status"]["allocatable"]["memory"] == "256Mi", "not known yet: its Pod may still come"
        stage.put_pod("p")
        pod = stage.pod("p")
        assert pod is not None
        pod["spec"]["containers"][0]["resources"] = {"requests": {"memory": "30Mi"}}
        stage.api.put(PODS, pod)
        await asyncio.sleep(30.0)
        node = stage.node()
        assert node is not None
        assert node["status"]["allocatable"]["memory"] == "186Mi", "256 less the 70 that the base itself uses"


async def test_a_failed_write_is_not_repeated_with_each_heartbeat() -> None:
    """A failed write is retried after its pause, however often a base sends heartbeats."""
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        tries: Counter[str] = Counter()
        acquire, called = stage.leases.acquire, stage.api._called

        async def count_acquires(base: BaseId, *, above: int = 0, records: Mapping[str, str] | None = None) -> int:
            tries["acquire"] += 1
            return await acquire(base, above=above, records=records)

        def count_writes(call: Call) -> None:
            tries["node status"] += call.resource == NODES and call.verb == "patch"
            if call.resource in (LEASES, NODES) and "module-controller" not in call.subject and call.verb != "get":
                raise Transient("overloaded")
            called(call)

        stage.leases.acquire = count_acquires  # type: ignore[method-assign]
        stage.api._called = count_writes  # type: ignore[method-assign]
        stage.gateways.tunnel_state(stage.link, up=False, reason="a reason to write the Node")
        for _ in range(200):
            stage.bases.heartbeat("b1")
            stage.bases.heartbeat("b2")
            await asyncio.sleep(0.1)
        assert 2 <= tries["acquire"] <= 8
        assert 2 <= tries["node status"] <= 8
