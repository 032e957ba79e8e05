"""What the control plane does while a real API server is away, is frozen, and after it is back."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from controlplane.app.clock import SystemClock
from controlplane.app.ports import AlreadyExists, Transient, Unknown
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import LEASES, NODES, Expired
from controlplane.kube import client, transport
from controlplane.kube.client import KubeApiServer
from tests.contract.cluster.conftest import eventually
from tests.contract.cluster.test_cluster import lease, node_spec
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.cluster import KubeCluster
from tests.servers.relay import Relay

pytestmark = pytest.mark.kubernetes


@pytest.fixture
async def kube_api(kube_cluster: KubeCluster) -> AsyncIterator[KubeApiServer]:
    api = await KubeApiServer.connect(str(kube_cluster.kubeconfig("controlplane")))
    yield api
    await api.close()


@pytest.fixture
async def cut_off(kube_cluster: KubeCluster, kube_api: KubeApiServer, unique: str) -> AsyncIterator[ApiCluster]:
    cluster = ApiCluster(kube_api, env=unique, kind="kubernetes", clock=SystemClock(), namespace=SYSTEM_NAMESPACE)
    running = asyncio.create_task(cluster.run())
    await eventually(lambda: cluster.trouble() is None)
    yield cluster
    running.cancel()
    await asyncio.wait([running])


async def test_caches_keep_everything_while_the_api_server_is_away(
    kube_cluster: KubeCluster, cut_off: ApiCluster, unique: str
) -> None:
    node = await cut_off.create_node(node_spec(unique))
    held = await cut_off.create_lease(lease(unique))
    await asyncio.to_thread(kube_cluster.stop_apiserver, signal.SIGKILL)
    try:
        await eventually(lambda: cut_off.trouble() is not None)
        assert "cannot be kept current" in str(cut_off.trouble())
        cached = cut_off.nodes.get(node.name)
        assert cached is not None
        assert cached.uid == node.uid
        assert cut_off.nodes.synced
        with pytest.raises(Transient):
            await cut_off.update_lease(held)
    finally:
        await asyncio.to_thread(kube_cluster.start_apiserver)
    async with asyncio.timeout(30):
        while cut_off.trouble() is not None:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.1)
    renewed = await cut_off.update_lease(replace(held, renew_time="2026-01-01T00:00:10.000000Z"))
    assert int(renewed.resource_version) > int(held.resource_version)
    after = cut_off.nodes.get(node.name)
    assert after is not None
    assert after.uid == node.uid


async def test_a_write_to_a_frozen_api_server_is_unknown(
    kube_cluster: KubeCluster,
    kube_api: KubeApiServer,
    cut_off: ApiCluster,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = await cut_off.create_lease(lease(unique))
    monkeypatch.setattr(transport, "WRITE_DEADLINE", 1.0)
    kube_cluster.freeze_apiserver()
    try:
        with pytest.raises(Unknown, match="after the request was sent"):
            await cut_off.update_lease(replace(held, renew_time="2026-01-01T00:00:10.000000Z"))
    finally:
        kube_cluster.thaw_apiserver()
    listed = await kube_api.list(LEASES, namespace=held.namespace)
    assert held.name in {obj["metadata"]["name"] for obj in listed.items}
    # The abandoned connection can end only now that the server answers again.
    await asyncio.sleep(0.5)


async def test_a_version_that_the_server_no_longer_has_is_expired(
    kube_cluster: KubeCluster, kube_api: KubeApiServer
) -> None:
    await asyncio.to_thread(kube_cluster.stop_apiserver, signal.SIGKILL)
    await asyncio.to_thread(kube_cluster.start_apiserver)
    with pytest.raises(Expired):
        async for _ in kube_api.watch(NODES, resource_version="1"):
            pass


@pytest.fixture
async def relayed(
    kube_cluster: KubeCluster, unique: str, tmp_path: Path
) -> AsyncIterator[tuple[Relay, ApiCluster, KubeApiServer]]:
    """The control plane's cluster behind a relay that may stop forwarding."""
    with Relay(int(kube_cluster.url.rpartition(":")[2])) as relay:
        kubeconfig = tmp_path / "kubeconfig"
        direct = kube_cluster.kubeconfig("controlplane").read_text()
        kubeconfig.write_text(direct.replace(kube_cluster.url, f"https://127.0.0.1:{relay.port}"))
        api = await KubeApiServer.connect(str(kubeconfig))
        cluster = ApiCluster(api, env=unique, kind="kubernetes", clock=SystemClock(), namespace=SYSTEM_NAMESPACE)
        running = asyncio.create_task(cluster.run())
        await eventually(lambda: cluster.trouble() is None)
        yield relay, cluster, api
        running.cancel()
        await asyncio.wait([running])
        await api.close()


async def test_dead_connections_are_replaced_within_20_s(
    relayed: tuple[Relay, ApiCluster, KubeApiServer], kube_api: KubeApiServer, unique: str
) -> None:
    relay, cluster, _ = relayed
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1.0)
    relay.freeze(new_ones=False)
    began = loop.time()
    other = ApiCluster(kube_api, env=unique, kind="kubernetes", clock=SystemClock(), namespace=SYSTEM_NAMESPACE)
    node = await other.create_node(node_spec(unique))
    async with asyncio.timeout(25.0):
        while cluster.nodes.get(node.name) is None:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.05)
    assert loop.time() - began < 20.0
    await eventually(lambda: cluster.trouble() is None)
    await other.create_lease(lease(unique))
    await eventually(lambda: any(True for _ in cluster.leases.all()))


async def test_a_path_that_forwards_nothing_any_more_is_trouble_within_20_s(
    relayed: tuple[Relay, ApiCluster, KubeApiServer],
) -> None:
    relay, cluster, _ = relayed
    loop = asyncio.get_running_loop()
    relay.freeze()
    began = loop.time()
    async with asyncio.timeout(25.0):
        while not all(  # noqa: ASYNC110 - what is waited for has no event
            f"{kind} cannot be kept current" in (cluster.trouble() or "")
            for kind in ("pods", "nodes", "leases", "deployments")
        ):
            await asyncio.sleep(0.05)
    assert loop.time() - began < 20.0
    assert "nothing was received for" in str(cluster.trouble())
    relay.mend()
    async with asyncio.timeout(40.0):
        while cluster.trouble() is not None:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.05)


async def test_short_watches_list_once_and_follow_the_cluster_by_bookmarks(
    kube_api: KubeApiServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WATCH_SECONDS", (4, 4))
    cluster = ApiCluster(kube_api, env=unique, kind="kubernetes", clock=SystemClock(), namespace=SYSTEM_NAMESPACE)
    labels = {"verb": "list", "resource": "nodes", "code": "200"}
    running = asyncio.create_task(cluster.run())
    await eventually(lambda: cluster.trouble() is None)
    lists = REGISTRY.get_sample_value("koupleless_api_requests_total", labels)
    seen: set[str] = set()
    for _ in range(45):
        await asyncio.sleep(0.2)
        assert cluster.trouble() is None
        seen.add(cluster.nodes.seen)
        # Something else changes that no watch of this cluster sends.
        other = ApiCluster(kube_api, env=f"{unique}o", kind="kubernetes", clock=SystemClock())
        with contextlib.suppress(AlreadyExists):
            await other.create_node(node_spec(f"{unique}o{len(seen)}"))
    running.cancel()
    await asyncio.wait([running])
    assert REGISTRY.get_sample_value("koupleless_api_requests_total", labels) == lists
    assert len(seen) > 1, "the version moves on although nothing of ours changed"
