"""Nodes show the kubelet API's address while one Service leads to it; the addresses of bases stay."""

import asyncio

import pytest

from controlplane.cluster.api import NODES, SERVICES, Json
from controlplane.domain.facts import Address
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

LABEL = "virtual-kubelet.koupleless.io/kubelet-proxy-service"
SERVICE_IP = "10.96.0.7"


def put_service(api: Api, name: str = "kubelet", ip: str = SERVICE_IP, port: int = 443) -> None:
    api.put(
        SERVICES,
        {
            "metadata": {"namespace": "default", "name": name, "labels": {LABEL: "true"}},
            "spec": {"clusterIP": ip, "ports": [{"port": port, "targetPort": 10250}]},
        },
    )


def shown(stage: Stage, base: str = "b1") -> tuple[dict[str, str], int]:
    """Return a Node's addresses by type, and its kubelet's port."""
    status: Json = (stage.node(base) or {}).get("status", {})
    addresses = {each["type"]: each["address"] for each in status.get("addresses", [])}
    return addresses, status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0)


OWN = ({"InternalIP": "10.0.0.7", "Hostname": "shop-0"}, 0)
THROUGH_SERVICE = ({"InternalIP": SERVICE_IP}, 443)


async def test_nodes_show_the_service_and_pods_their_bases_address() -> None:
    api = Api()
    put_service(api)
    async with Stage(api, kubelet_port=10250).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("biz1")
        await asyncio.sleep(3.0)
        assert shown(stage) == THROUGH_SERVICE
        pod = stage.pod("biz1")
        assert pod is not None
        assert (pod["status"]["podIP"], pod["status"]["hostIP"]) == ("10.0.0.7", "10.0.0.7")
        assert stage.link.watches[-1].address == Address("10.0.0.7", 1238)
    # A replica that takes over reads the base's address, not the Service's.
    async with Stage(api, kubelet_port=10250).running() as stage:
        await asyncio.sleep(1.0)
        assert stage.link.watches[-1].address == Address("10.0.0.7", 1238)
        assert shown(stage) == THROUGH_SERVICE


async def test_nodes_follow_the_service() -> None:
    api = Api()
    async with Stage(api, kubelet_port=10250).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        assert shown(stage) == OWN
        put_service(api)
        await asyncio.sleep(1.0)
        assert shown(stage) == THROUGH_SERVICE
        put_service(api, "another", "10.96.0.8")
        await asyncio.sleep(1.0)
        assert shown(stage) == OWN
        api.remove(SERVICES, "kubelet", "default")
        await asyncio.sleep(1.0)
        assert shown(stage) == ({"InternalIP": "10.96.0.8"}, 443)
        api.remove(SERVICES, "another", "default")
        await asyncio.sleep(1.0)
        assert shown(stage) == OWN


async def test_nodes_keep_the_service_while_services_are_unknown() -> None:
    api = Api()
    put_service(api)
    async with Stage(api, kubelet_port=10250).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        assert shown(stage) == THROUGH_SERVICE
    stage = Stage(api, kubelet_port=10250)
    assert stage.services is not None

    async def forbidden() -> None:
        await asyncio.sleep(3600)

    stage.services.run = forbidden  # type: ignore[method-assign,assignment]  # nothing is listed
    async with stage.running():
        stage.bases.add("b1")
        await asyncio.sleep(30.0)
        assert stage.fleet.recovered
        assert stage.ready("node", "b1") == "True"
        assert shown(stage) == THROUGH_SERVICE


async def test_without_the_kubelet_api_nodes_show_their_own_address() -> None:
    api = Api()
    put_service(api)
    async with Stage(api, kubelet_port=10250).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        assert shown(stage) == THROUGH_SERVICE
    async with Stage(api).running() as stage:
        await asyncio.sleep(1.0)
        assert shown(stage) == OWN


async def test_the_service_on_a_node_of_the_original_is_not_taken_for_the_base() -> None:
    api = Api()
    put_service(api)
    api.put(
        NODES,
        {
            "metadata": {
                "name": "vnode.b1.dev",
                "labels": {
                    "virtual-kubelet.koupleless.io/component": "vnode",
                    "virtual-kubelet.koupleless.io/env": "dev",
                    "base.koupleless.io/tunnel-port": "1238",
                },
            },
            "status": {"addresses": [{"type": "InternalIP", "address": SERVICE_IP}]},
        },
    )
    async with Stage(api, kubelet_port=10250).running() as stage:
        await asyncio.sleep(2.0)
        assert SERVICE_IP not in {watch.address.ip for watch in stage.link.watches}
        stage.bases.add("b1")
        await asyncio.sleep(2.0)
        assert stage.link.watches[-1].address == Address("10.0.0.7", 1238)


async def test_nodes_say_where_metrics_server_finds_what_they_use_while_the_kubelet_api_is_there() -> None:
    """One address serves all Nodes, so that the path has to name the one that is meant."""

    def path(stage: Stage) -> object:
        node = stage.api.named(NODES, "vnode.b1.dev")
        assert node is not None
        return node["metadata"]["annotations"].get("metrics.k8s.io/resource-metrics-path")

    api = Api()
    async with Stage(api, kubelet_port=10250).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        assert path(stage) is None
        put_service(api)
        await asyncio.sleep(2.0)
        assert path(stage) == "/nodes/vnode.b1.dev/metrics/resource"
        api.remove(SERVICES, "kubelet", "default")
        await asyncio.sleep(2.0)
        assert path(stage) is None
