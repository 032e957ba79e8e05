"""When a replica tries to take which base: its own share at once, what others do not take for them."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.identity import BaseId
from controlplane.domain.ownership import replicas as rules
from controlplane.domain.ownership.attempts import PATIENCE, STEP_IN_AFTER, Attempt, Attempts

NAMES = ("r0", "r1", "r2", "r3")
BASES = tuple(BaseId(f"b{number}") for number in range(12))
STEP = 0.1


def left(at: float, to: str, place: int = 0) -> Attempt:
    return Attempt(at, "holder-gone", to, place)


class World:
    """Replicas that see the same leases, each with an opinion of its own of who takes which base."""

    def __init__(self, opinions: Mapping[str, Mapping[BaseId, str]], *, broken: str = "", pace: float = 0.0) -> None:
        self.now, self.broken, self.pace = 0.0, broken, pace
        self.attempts = {name: Attempts(name) for name in opinions}
        self.taken: dict[BaseId, str] = {}
        self.tries: list[tuple[str, BaseId]] = []
        self._ready_at = dict.fromkeys(opinions, 0.0)
        self._queued: dict[str, list[BaseId]] = {name: [] for name in opinions}
        for name, opinion in opinions.items():
            for base, taker in opinion.items():
                others = [other for other in rules.order(base, opinions) if other != taker]
                attempt = left(0.0, taker, 0 if taker == name else others.index(name))
                self.attempts[name].put(base, attempt)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            for name, attempts in self.attempts.items():
                self._queued[name] += attempts.due(self.now)
                while self._queued[name] and self._ready_at[name] <= self.now and name != self.broken:
                    self._take(name, self._queued[name].pop(0))
            self.now += STEP

    def _take(self, name: str, base: BaseId) -> None:
        self.tries.append((name, base))
        self._ready_at[name] = self.now + self.pace
        if base not in self.taken:
            self.taken[base] = name
            for attempts in self.attempts.values():
                attempts.put(base, None)
                attempts.took(base, name, self.now)


opinions = st.integers(2, 4).flatmap(
    lambda many: st.fixed_dictionaries(
        {name: st.fixed_dictionaries({base: st.sampled_from(NAMES[:many]) for base in BASES}) for name in NAMES[:many]}
    )
)


@given(opinions)
def test_all_are_taken_soon_whatever_each_replica_thinks_of_the_others(opinions: dict[str, dict[BaseId, str]]) -> None:
    world = World(opinions)
    world.run(2 * STEP)
    nobodys = {base for base in BASES if all(opinions[name][base] != name for name in opinions)}
    assert world.taken.keys() == set(BASES) - nobodys
    world.run((STEP_IN_AFTER if world.taken else PATIENCE) * len(opinions) + STEP)
    assert world.taken.keys() == set(BASES)


@given(opinions, st.sampled_from(NAMES))
def test_a_replica_that_takes_nothing_is_no_reason_to_wait_long(
    opinions: dict[str, dict[BaseId, str]], broken: str
) -> None:
    world = World(opinions, broken=broken)
    world.run((PATIENCE + STEP_IN_AFTER) * len(opinions) + 2 * STEP)
    assert world.taken.keys() == set(BASES)


@given(st.integers(2, 4), st.floats(0.0, 0.1))
def test_nobody_steps_in_while_all_take_their_shares(many: int, pace: float) -> None:
    shares = {base: NAMES[number % many] for number, base in enumerate(BASES)}
    world = World(dict.fromkeys(NAMES[:many], shares), pace=pace)
    world.run(30.0)
    assert world.taken == shares
    assert len(world.tries) == len(BASES)


class TestStepIn:
    def test_it_comes_once_nobody_has_taken_anything_for_a_while(self) -> None:
        attempts = Attempts("r0")
        for base, to in zip(BASES[:4], ("r1", "r1", "r0", "r2"), strict=True):
            attempts.put(base, left(10.0, to))
        assert attempts.due(10.0) == {BASES[2]: "holder-gone"}
        for base, replica, at in ((BASES[1], "r1", 10.3), (BASES[2], "r0", 10.4), (BASES[3], "somebody", 10.5)):
            attempts.put(base, None)
            attempts.took(base, replica, at)
        assert attempts.next_at(99.0) == 10.4 + STEP_IN_AFTER
        assert attempts.due(10.6) == {}
        assert attempts.due(10.4 + STEP_IN_AFTER) == {BASES[0]: "holder-gone"}
        assert attempts.due(99.0) == {}, "each comes once"

    def test_where_nothing_was_taken_the_cluster_may_be_slow(self) -> None:
        attempts = Attempts("r0")
        attempts.put(BASES[1], left(9.0, "r0"))
        attempts.due(9.0)
        attempts.took(BASES[1], "r0", 9.9)
        attempts.put(BASES[0], left(10.0, "r1"))
        assert attempts.next_at(99.0) == 10.0 + PATIENCE

    def test_new_bases_and_gifts_do_not_put_it_off(self) -> None:
        attempts = Attempts("r0")
        attempts.put(BASES[0], left(10.0, "r1"))
        for tenth in range(50):
            attempts.took(BaseId(f"new{tenth}"), ("r0", "r1")[tenth % 2], 10.0 + tenth / 10)
        assert attempts.next_at(99.0) == 10.0 + PATIENCE

    def test_a_base_counts_once(self) -> None:
        attempts = Attempts("r0")
        attempts.put(BASES[0], left(10.0, "r1"))
        attempts.put(BASES[1], left(10.0, "r1"))
        attempts.put(BASES[1], None)
        attempts.took(BASES[1], "r1", 10.2)
        attempts.took(BASES[1], "r1", 10.4)
        assert attempts.next_at(99.0) == 10.2 + STEP_IN_AFTER

    def test_places_come_one_after_the_other(self) -> None:
        attempts = Attempts("r0")
        attempts.put(BASES[0], left(10.0, "r1", place=2))
        assert attempts.next_at(99.0) == 10.0 + 3 * PATIENCE

    def test_another_look_at_a_base_does_not_delay_its_attempt(self) -> None:
        attempts = Attempts("r0")
        attempts.put(BASES[0], left(10.0, "r1"))
        attempts.put(BASES[0], left(10.3, attempts.left_to(BASES[0])))
        assert attempts.next_at(99.0) == 10.0 + PATIENCE
        attempts.put(BASES[0], Attempt(10.4, "given"))
        assert attempts.due(10.4) == {BASES[0]: "given"}

    def test_with_other_replicas_all_begins_again(self) -> None:
        attempts = Attempts("r0")
        attempts.put(BASES[0], left(10.0, "r1"))
        attempts.clear()
        assert not attempts.bases
        assert attempts.next_at(99.0) == 99.0
        assert attempts.left_to(BASES[0]) == ""
