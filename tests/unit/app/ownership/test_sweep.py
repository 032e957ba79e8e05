"""Leases of bases that are gone are removed: those without a Node whose holder ended."""

import asyncio

import pytest

from controlplane.app.ports import Conflict, Transient
from controlplane.cluster.api import LEASES, Json
from controlplane.domain.objects import Lease
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

SWEPT = 150.0
"""Seconds after which the first sweep of Leases is over."""


def left_over(base: str, holder: str = "gone", transitions: int = 3) -> Json:
    return {
        "metadata": {
            "namespace": "kube-node-lease",
            "name": f"vnode.{base}.dev",
            "labels": {
                "virtual-kubelet.koupleless.io/component": "vnode-lease",
                "virtual-kubelet.koupleless.io/env": "dev",
            },
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 40,
            "renewTime": "2026-01-01T00:00:00.000000Z",
            "leaseTransitions": transitions,
        },
    }


async def test_leases_without_a_node_are_removed_once_they_expired() -> None:
    api = Api()
    api.put(LEASES, left_over("b1"))
    async with Stage(api).running() as stage:
        await asyncio.sleep(SWEPT)
        assert stage.lease("b1") is None


async def test_the_lease_of_a_base_that_is_alive_stays() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(SWEPT)
        assert stage.lease("b1") is not None
        assert api.made("delete") == [], "it was not removed and made again"


async def test_leases_that_somebody_deletes_during_a_sweep_break_nothing() -> None:
    api = Api()
    for number in range(5):
        api.put(LEASES, left_over(f"b{number}"))
    stage = Stage(api)
    remove = stage.cluster.delete_lease

    async def remove_all(lease: Lease) -> None:
        await remove(lease)
        for number in range(5):
            if stage.lease(f"b{number}") is not None:
                api.remove(LEASES, f"vnode.b{number}.dev", "kube-node-lease")
        await asyncio.sleep(0.1)

    stage.cluster.delete_lease = remove_all  # type: ignore[method-assign]
    async with stage.running():
        await asyncio.sleep(SWEPT)
        stage.bases.add("b9")
        await asyncio.sleep(5.0)
        assert stage.ready("node", "b9") == "True", "the fleet still runs"


@pytest.mark.parametrize("error", [Conflict("changed"), Transient("away")])
async def test_a_failed_removal_of_a_lease_is_retried(error: Exception) -> None:
    api = Api()
    api.put(LEASES, left_over("b1"))
    api.fail("delete", error)  # type: ignore[arg-type]
    async with Stage(api).running() as stage:
        await asyncio.sleep(SWEPT)
        assert stage.lease("b1") is not None
        await asyncio.sleep(SWEPT)
        assert stage.lease("b1") is None


async def test_the_lease_of_a_returning_base_begins_above_every_seen_fence() -> None:
    """Gateways remember the fence of a base for longer than its Lease lasts, and refuse lower ones."""
    api = Api()
    api.put(LEASES, left_over("b1", transitions=1_500_000_000))
    async with Stage(api).running() as stage:
        await asyncio.sleep(1.0)
        api.remove(LEASES, "vnode.b1.dev", "kube-node-lease")
        stage.bases.add("b1")
        await asyncio.sleep(60.0)
        held = stage.lease("b1")
        assert held is not None
        assert held["spec"]["leaseTransitions"] > 1_500_000_000
