"""Secrets in module URLs reach other replicas never, and tools only where they ask for them and may have them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.cluster.api import LEASES
from controlplane.domain.identity import BaseId
from controlplane.domain.remarks import Remark
from controlplane.rpc.tooling import moduleurls
from tests.unit.app.harness import Api, Stage
from tests.unit.app.workloads.test_followers import put_deployment
from tests.unit.rpc.tooling.replicas import Tooling, call, tooling, vnode

pytestmark = pytest.mark.looptime

URL = "https://deploy:pass-word@repo.example/biz1.jar?v=1&X-Amz-Signature=5ecret"
SHOWN = "https://***@repo.example/biz1.jar?v=1&X-Amz-Signature=***"
THEIRS = "vnode.b1.dev"


@asynccontextmanager
async def stage(*others: str) -> AsyncIterator[Tooling]:
    async with Stage(Api()).running() as running:
        running.bases.add("b1")
        running.put_pod("p", container={"image": URL})
        await asyncio.sleep(5.0)
        async with tooling(running, *others) as served:
            yield served


async def urls(served: Tooling, *, show_secrets: bool = False) -> list[str]:
    """Return the URL as each call gives it."""
    servicer = served.servicer
    one = await servicer.GetVNode(pb.GetVNodeRequest(name="b1", show_secrets=show_secrets), call())
    listed = await servicer.ListModules(pb.ListModulesRequest(show_secrets=show_secrets), call())
    watch = servicer.WatchModules(pb.WatchModulesRequest(show_secrets=show_secrets), call())
    watched = await anext(watch)
    await watch.aclose()
    return [*(m.url for m in one.modules), *(m.url for m in listed.items), watched.module.url]


async def test_urls_are_masked_unless_they_are_asked_for() -> None:
    async with stage() as served:
        assert await urls(served) == [SHOWN] * 3
        assert await urls(served, show_secrets=True) == [URL] * 3
        assert await urls(served) == [SHOWN] * 3, "what was shown to one is not kept for others"


async def test_who_may_not_read_the_pods_of_a_namespace_gets_masked_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def may_read_pods(_context: Any, namespace: str) -> bool:
        asked.append(namespace)
        return namespace == "other"

    monkeypatch.setattr(moduleurls, "may_read_pods", may_read_pods)
    async with stage() as served:
        served.stage.put_pod("q", module="biz2", metadata={"namespace": "other"}, container={"image": URL})
        served.stage.put_pod("r", module="biz3", container={"image": URL})
        await asyncio.sleep(1.0)
        request = pb.ListModulesRequest(show_secrets=True)
        found = (await served.servicer.ListModules(request, call())).items
        assert {m.name: m.url for m in found} == {"biz1": SHOWN, "biz2": URL, "biz3": SHOWN}
        assert sorted(asked) == ["default", "other"], "each namespace is asked for once"


async def test_other_replicas_are_sent_masked_urls_and_messages() -> None:
    async with stage() as served:
        served.stage.recorder.module(
            THEIRS, URL, Remark(True, "BaselineInstallFailed", f"baseline of b1: {URL} failed")
        )

        async def asked() -> AsyncIterator[rpb.FollowRequest]:
            yield rpb.FollowRequest(sync=1)
            await asyncio.sleep(60.0)

        stream = served.replicas.Follow(asked(), call())
        sent = [await anext(stream)]
        while sent[-1].WhichOneof("message") != "synced":
            sent.append(await anext(stream))
        text = "\n".join(map(str, sent))
        assert "***@repo.example/biz1.jar" in text
        assert not any(secret in text for secret in ("pass-word", "5ecret"))


async def test_the_url_of_a_module_that_another_replica_owns_comes_from_the_pod_too() -> None:
    async with stage("other") as served:
        lease = served.stage.lease("b1")
        assert lease is not None
        spec = {**lease["spec"], "holderIdentity": "other", "leaseTransitions": lease["spec"]["leaseTransitions"] + 1}
        served.stage.api.put(LEASES, {**lease, "spec": spec})
        await asyncio.sleep(5.0)
        asking = asyncio.create_task(
            served.servicer.ListModules(pb.ListModulesRequest(name="biz1", show_secrets=True), call())
        )
        await asyncio.sleep(0.01)
        stream = served.network.last("other")
        theirs = pb.Module(vnode=THEIRS, name="biz1", version="1", namespace="default", pod="p", url=SHOWN)
        gone = pb.Module(vnode=THEIRS, name="biz1", version="2", namespace="default", pod="gone", url=SHOWN)
        stream.send(vnode(THEIRS, theirs, gone, owner="other"))
        stream.sync()
        assert [m.url for m in (await asking).items] == [URL, SHOWN]


@pytest.mark.parametrize(("may", "url"), [(True, URL), (False, SHOWN)])
async def test_a_baseline_is_masked_unless_it_is_asked_for(
    may: bool, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def may_read_pods(_context: Any, namespace: str) -> bool:
        assert namespace == ""
        return may

    monkeypatch.setattr(moduleurls, "may_read_pods", may_read_pods)
    api = Api()
    put_deployment(api, spec={"containers": [_container()]})
    async with Stage(api).running() as running, tooling(running) as served:
        await asyncio.sleep(5.0)
        for asked, expected in ((False, SHOWN), (True, url)):
            request = pb.GetBaselineRequest(cluster_name="default", name="shop", version="1.0.0", show_secrets=asked)
            given = await served.servicer.GetBaseline(request, call())
            assert [m.url for m in given.modules] == [expected]


async def test_the_order_has_the_url_as_it_is() -> None:
    async with stage() as served:
        await asyncio.sleep(5.0)
        orders = [order for order in served.stage.link.orders if order.base == BaseId("b1")]
        assert [module.url for order in orders for module in order.modules] == [URL]


def _container() -> dict[str, Any]:
    return {"name": "biz1", "image": URL, "env": [{"name": "BIZ_VERSION", "value": "1"}]}
