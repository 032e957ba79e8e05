"""Leases are counted by holder, and kept in order, as they change."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.tooling.held import HeldLeases
from controlplane.cluster.adapter import ApiCluster
from controlplane.domain.contract import LEASE_NAMESPACE
from controlplane.domain.objects import Lease
from tests.fakes.apiserver import FakeApiServer
from tests.unit.app.harness import LoopClock

CHANGES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", "", None])), max_size=40)


@given(before=CHANGES, changes=CHANGES)
def test_counts_and_order_are_those_of_the_leases(
    before: list[tuple[int, str | None]], changes: list[tuple[int, str | None]]
) -> None:
    cluster = ApiCluster(FakeApiServer(), env="dev", kind="test", clock=LoopClock())
    version = 0

    def change(number: int, holder: str | None) -> None:
        nonlocal version
        version += 1
        lease = Lease(LEASE_NAMESPACE, f"vnode.{number}.dev", str(version), holder or "")
        key = f"{lease.namespace}/{lease.name}"
        if holder is None:
            cluster.leases.gone(key, lease.resource_version)
        else:
            cluster.leases.changed(key, lease)

    for number, holder in before:
        change(number, holder)
    held = HeldLeases(cluster)
    for number, holder in changes:
        change(number, holder)
        leases = tuple(cluster.leases.all())
        keys = sorted(f"{lease.namespace}/{lease.name}" for lease in leases)
        assert held.counts == Counter(lease.holder for lease in leases if lease.holder)
        assert 0 not in held.counts.values()
        assert held.after("", 100) == keys
        middle = f"{LEASE_NAMESPACE}/vnode.2.dev"
        assert held.after(middle, 2) == [key for key in keys if key > middle][:2]
