"""Installs and uninstalls by tools have a result for each Pod, and temporary refusals are retried."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.ports import ClusterError, Rejected, Transient, Unknown
from controlplane.app.tooling.installs import AT_ONCE, Installs
from controlplane.app.tooling.refusals import Missing, NotAllowed, RequestError
from controlplane.app.tooling.vnodes import VNodes
from controlplane.cluster.api import PODS, Json, Resource
from controlplane.domain.identity import ModuleKey, VNodeName
from controlplane.domain.objects import Container
from controlplane.rpc.tooling import codec
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

URL = "https://repo.example/biz-1.jar"
MODULE = Container("biz", URL, "1")
KEY = ModuleKey("biz", "1")

Answer = Callable[[str, int], ClusterError | None]


class ScriptedApi(Api):
    """An API server that answers each creation of a Pod slowly, by its Node and attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Answer = lambda _pod, _attempt: None
        self.after: Answer = lambda _pod, _attempt: None
        self.attempts: Counter[str] = Counter()
        self.under_way = 0
        self.most_under_way = 0

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        if resource != PODS:
            return await super().create(resource, obj, namespace)
        node = str(obj["spec"]["nodeName"])
        self.attempts[node] += 1
        attempt = self.attempts[node]
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0.01)
            if (error := self.answer(node, attempt)) is not None:
                raise error
            created = await super().create(resource, obj, namespace)
            if (error := self.after(node, attempt)) is not None:
                raise error
            return created
        finally:
            self.under_way -= 1


class Tool:
    """A tool that installs and uninstalls modules."""

    def __init__(self, stage: Stage) -> None:
        self._vnodes = VNodes(stage.cluster, stage.roster, "dev")
        self._installs = Installs(stage.cluster, env="dev")

    async def install(
        self, module: Container = MODULE, *, base: str = "", request_id: str = "1", within: float = 10.0
    ) -> list[pb.ModuleOperation]:
        outcomes = await self._installs.install(
            self._targets(base), module, namespace="default", request_id=request_id, user="ann", within=within
        )
        return codec.operations(outcomes)

    async def uninstall(self, *, base: str = "", within: float = 10.0) -> list[pb.ModuleOperation]:
        outcomes = await self._installs.uninstall(self._targets(base), KEY, namespace="", within=within)
        return codec.operations(outcomes)

    def _targets(self, base: str) -> list[VNodeName]:
        return [self._vnodes.named(base, self._vnodes.names())] if base else self._vnodes.matching()


@asynccontextmanager
async def stage(bases: int) -> AsyncIterator[tuple[Stage, ScriptedApi, Tool]]:
    api = ScriptedApi()
    async with Stage(api).running() as running:
        for number in range(bases):
            running.bases.add(f"b{number:03d}")
        await asyncio.sleep(5.0)
        yield running, api, Tool(running)


def results(changes: list[pb.ModuleOperation]) -> Counter[str]:
    return Counter(change.result for change in changes)


def too_many(seconds: float) -> Transient:
    return Transient("too many requests (HTTP 429)", seconds)


async def test_a_temporary_refusal_is_retried_after_the_given_time() -> None:
    async with stage(50) as (_, api, tool):
        api.answer = lambda node, attempt: too_many(3.0) if node == "vnode.b040.dev" and attempt == 1 else None
        began = asyncio.get_running_loop().time()
        assert results(await tool.install()) == {"created": 50}
        assert 3.0 <= asyncio.get_running_loop().time() - began < 5.0
        assert api.attempts["vnode.b040.dev"] == 2
        assert api.most_under_way == AT_ONCE


async def test_a_failed_pod_delays_no_other_and_has_its_reason() -> None:
    async with stage(50) as (running, api, tool):
        api.answer = lambda node, _: Rejected("exceeded quota (HTTP 403)") if node == "vnode.b007.dev" else None
        changes = await tool.install()
        assert results(changes) == {"created": 49, "failed": 1}
        failed = changes[7]
        assert (failed.vnode, failed.reason, failed.message) == (
            "vnode.b007.dev",
            "Rejected",
            "exceeded quota (HTTP 403)",
        )
        assert sum(running.pod(change.pod) is not None for change in changes) == 49


async def test_each_pod_that_is_left_at_the_deadline_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without jitter no attempt is under way at the deadline, where its result would be unknown.
    monkeypatch.setattr("controlplane.app.tooling.installs.random.random", lambda: 0.0)
    async with stage(40) as (running, api, tool):
        api.answer = lambda node, _: None if node < "vnode.b010.dev" else too_many(1.0)
        began = asyncio.get_running_loop().time()
        changes = await tool.install(within=6.0)
        assert asyncio.get_running_loop().time() - began <= 6.0
        assert results(changes) == {"created": 10, "failed": 30}
        assert {change.reason for change in changes[10:]} == {"Unavailable"}
        assert changes[10].message == "too many requests (HTTP 429)"
        assert all(running.pod(change.pod) is None for change in changes[10:])


async def test_unanswered_creates_are_unknown_and_later_pods_are_not_tried() -> None:
    async with stage(AT_ONCE + 1) as (_, api, tool):
        api.delay["create"] = 60.0
        changes = await tool.install(within=2.0)
        assert [change.reason for change in changes] == ["Unknown"] * AT_ONCE + ["Unavailable"]
        assert changes[-1].message == "it was not tried: the time of the call was over"


async def test_a_pod_created_without_confirmation_counts_as_created() -> None:
    async with stage(2) as (_, api, tool):
        api.after = lambda _, attempt: Unknown("no reply within 10 s") if attempt == 1 else None
        assert results(await tool.install(request_id="a")) == {"created": 2}
        assert results(await tool.install(request_id="b")) == {"unchanged": 2}


async def test_the_failure_of_a_single_pod_is_raised() -> None:
    async with stage(2) as (_, api, tool):
        api.answer = lambda _node, _attempt: Rejected("forbidden (HTTP 403)")
        with pytest.raises(Rejected):
            await tool.install(base="b001")
        api.answer = lambda _node, _attempt: too_many(1.0)
        with pytest.raises(Transient):
            await tool.install(base="b001", within=3.0)


async def test_an_install_from_another_url_fails() -> None:
    async with stage(2) as (_, _api, tool):
        await tool.install(base="b000")
        changes = await tool.install(Container("biz", "https://repo.example/other.jar", "1"))
        assert [change.result for change in changes] == ["failed", "created"]
        assert f"from another URL, {URL}: uninstall it first" in changes[0].message


@pytest.mark.parametrize(
    "url",
    [
        "not-a-url",
        "repo.example/biz.jar",
        "/opt/biz.jar",
        "https:///biz.jar",
        "https://re po/x",
        "http://[::1",
        "https:",
    ],
)
async def test_an_invalid_url_is_refused(url: str) -> None:
    async with stage(1) as (_, api, tool):
        with pytest.raises(RequestError, match="is not a URL") as refused:
            await tool.install(Container("biz", url, "1"))
        assert refused.value.field == "url"
        assert not api.attempts


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1:8080/a?b=c", "file:///opt/biz.jar", "file:/opt/b.jar", "jar:file:/a.jar!/b.jar", "oss://b/c"],
)
async def test_urls_that_java_may_know_are_accepted(url: str) -> None:
    async with stage(1) as (_, _api, tool):
        assert results(await tool.install(Container("biz", url, "1"))) == {"created": 1}


async def test_uninstalls_have_a_result_for_each_pod() -> None:
    async with stage(3) as (running, _api, tool):
        await tool.install()
        running.put_pod("owned", base="b001", module="biz", metadata={"ownerReferences": [_owner()]})
        await asyncio.sleep(1.0)
        changes = await tool.uninstall()
        assert results(changes) == {"deleted": 3, "failed": 1}
        (failed,) = [change for change in changes if change.result == "failed"]
        assert (failed.pod, failed.reason) == ("owned", "NotAllowed")
        with pytest.raises(NotAllowed):
            await tool.uninstall(base="b001")
        with pytest.raises(Missing):
            await tool.uninstall(base="b002")


def _owner() -> Json:
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}
