"""Rules over the known replicas: which take bases, which give them away, and in which order."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import contract
from controlplane.domain.objects import Lease
from controlplane.domain.ownership import replicas as rules
from controlplane.domain.ownership.replicas import Replica

NAMES = ("r0", "r1", "r2", "r3", "r4")
loads = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 400), min_size=1)
some = st.sets(st.sampled_from(NAMES), min_size=1)


def after(loads: dict[str, int], among: set[str]) -> tuple[dict[str, int], int]:
    """Return the loads when all gave what they should, and how many bases moved."""
    now, moved = Counter(loads), 0
    for giver in loads:
        for receiver, count in rules.gifts(giver, loads, among).items():
            assert receiver in among
            assert receiver != giver
            now[giver] -= count
            now[receiver] += count
            moved += count
    return dict(now), moved


def even(loads: dict[str, int], among: set[str]) -> bool:
    return all(loads.get(replica, 0) <= rules.TOLERANCE * sum(loads.values()) / len(among) for replica in among)


class TestActing:
    def test_it_ends_before_others_may_begin(self) -> None:
        assert rules.may_act(now=5.3, renewed_at=0.0)
        assert not rules.may_act(now=5.4, renewed_at=0.0)
        assert rules.SELF_FENCE_AFTER < rules.DURATION * 0.99**2, "clocks may differ by a percent each"

    def test_a_replica_that_was_confirmed_in_time_cannot_have_been_counted_as_gone(self) -> None:
        assert rules.unbroken(now=7.1, renewed_at=0.0)
        assert not rules.unbroken(now=7.3, renewed_at=0.0)
        assert not rules.unbroken(now=0.0, renewed_at=float("-inf"))


class TestMemberLease:
    def test_a_member_lease_describes_its_replica(self) -> None:
        annotations = {
            contract.ANNOTATION_REPLICA_ADDRESS: "10.0.0.5:9090",
            contract.ANNOTATION_REPLICA_DRAINING: "true",
            contract.ANNOTATION_REPLICA_TUNNELS: "http,mqtt",
        }
        lease = Lease("default", f"{contract.MEMBER_LEASE_PREFIX}r1", "1", holder="r1", annotations=annotations)
        assert rules.replica_of(lease) == Replica("r1", "10.0.0.5:9090", True, frozenset({"http", "mqtt"}))

    def test_a_lease_without_annotations_gives_the_name_only(self) -> None:
        assert rules.replica_of(Lease("default", f"{contract.MEMBER_LEASE_PREFIX}r1", "1")) == Replica("r1")


HTTP, MQTT = frozenset({"http"}), frozenset({"mqtt"})


@pytest.mark.parametrize(
    ("known", "tunnel", "expected"),
    [
        ([], "http", ()),
        ([Replica("b"), Replica("a")], "", ("a", "b")),
        ([Replica("a", draining=True), Replica("b")], "", ("b",)),
        ([Replica("a", draining=True), Replica("b", draining=True)], "", ("a", "b")),
        ([Replica("a", tunnels=HTTP), Replica("b", tunnels=MQTT)], "http", ("a",)),
        ([Replica("a", tunnels=HTTP), Replica("b", tunnels=MQTT)], "", ("a", "b")),
        ([Replica("a"), Replica("b")], "http", ("a", "b")),
        ([Replica("a", draining=True, tunnels=HTTP), Replica("b")], "http", ("b",)),
    ],
)
def test_takers_reach_the_tunnel_and_drain_only_if_all_do(
    known: list[Replica], tunnel: str, expected: tuple[str, ...]
) -> None:
    assert rules.takers(known, tunnel) == expected


@given(some, st.text())
def test_the_order_of_replicas_is_a_permutation_for_each_key(among: set[str], key: str) -> None:
    assert sorted(rules.rank(me, key, among) for me in among) == list(range(len(among)))


def test_keys_are_spread_over_the_replicas() -> None:
    first = Counter(me for key in range(900) for me in NAMES[:3] if rules.rank(me, f"base-{key}", NAMES[:3]) == 0)
    assert all(240 <= first[name] <= 360 for name in NAMES[:3])


def test_without_one_replica_the_others_keep_their_order() -> None:
    for key in map(str, range(100)):
        before = sorted(NAMES, key=lambda me: rules.rank(me, key, NAMES))
        fewer = [name for name in NAMES if name != "r2"]
        assert sorted(fewer, key=lambda me: rules.rank(me, key, fewer)) == [n for n in before if n != "r2"]


@pytest.mark.parametrize(
    ("owned", "everything", "expected"), [(0, 0, 0), (0, 10, 0), (5, 9, 1), (9, 9, 2), (300, 300, 2)]
)
def test_levels_are_those_of_the_original(owned: int, everything: int, expected: int) -> None:
    assert rules.level(owned, everything, 3) == expected


class TestAssigned:
    def test_without_takers_nothing_is_assigned(self) -> None:
        assert rules.assigned(["b1"], {"r0": 3}, ()) == {}

    @given(st.sets(st.text(min_size=1), max_size=60), loads, some)
    def test_the_least_loaded_get_them(self, orphans: set[str], loads: dict[str, int], among: set[str]) -> None:
        chosen = rules.assigned(sorted(orphans), loads, among)
        assert chosen.keys() == orphans
        assert set(chosen.values()) <= among
        now = Counter({name: loads.get(name, 0) for name in among}) + Counter(chosen.values())
        for taker in set(chosen.values()):
            assert now[taker] - 1 <= min(now[name] for name in among), "each went to whoever had least then"

    @given(st.lists(st.text(min_size=1), unique=True), loads, some)
    def test_every_replica_finds_the_same(self, orphans: list[str], loads: dict[str, int], among: set[str]) -> None:
        assert rules.assigned(orphans, loads, among) == rules.assigned(orphans[::-1], loads, sorted(among)[::-1])


class TestGifts:
    @pytest.mark.parametrize(
        ("loads", "among", "expected"),
        [
            ({"r0": 300, "r1": 0}, {"r0", "r1"}, {"r1": 150}),
            ({"r0": 100, "r1": 100, "r2": 0}, {"r0", "r1", "r2"}, {"r2": 33}),
            ({"r0": 103, "r1": 100}, {"r0", "r1"}, {}),
            ({"r0": 2, "r1": 1}, {"r0", "r1"}, {}),
            ({"r0": 7, "r1": 4}, {"r1"}, {"r1": 7}),
            ({"r0": 3}, set(), {}),
            ({"r0": 0, "r1": 0}, {"r0", "r1"}, {}),
        ],
    )
    def test_a_replica_gives_what_evens_out_the_loads(
        self, loads: dict[str, int], among: set[str], expected: dict[str, int]
    ) -> None:
        assert rules.gifts("r0", loads, among) == expected

    @given(loads, some)
    def test_they_even_out_the_loads_and_empty_who_takes_none(self, loads: dict[str, int], among: set[str]) -> None:
        loads |= {name: loads.get(name, 0) for name in among}
        now, _ = after(loads, among)
        assert sum(now.values()) == sum(loads.values())
        assert all(now[name] == 0 for name in now if name not in among)
        share = sum(loads.values()) // len(among)
        assert all(now[name] <= max(share + 1, rules.TOLERANCE * sum(loads.values()) / len(among)) for name in among)

    @given(loads, some)
    def test_after_them_none_are_due(self, loads: dict[str, int], among: set[str]) -> None:
        loads |= {name: loads.get(name, 0) for name in among}
        now, _ = after(loads, among)
        assert after(now, among)[1] == 0

    @given(loads, some)
    def test_as_few_move_as_needed(self, loads: dict[str, int], among: set[str]) -> None:
        loads |= {name: loads.get(name, 0) for name in among}
        _, moved = after(loads, among)
        share = sum(loads.values()) // len(among)
        over = sum(max(loads[name] - share, 0) for name in among)
        leaving = sum(load for name, load in loads.items() if name not in among)
        assert moved <= over + leaving
        if not leaving and even(loads, among):
            assert moved == 0
