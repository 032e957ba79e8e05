"""Records of Leases answer for every Lease at any time, and keep how a Lease ended."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.ownership.records import LeaseRecords
from controlplane.domain.objects import Lease

LEASE = Lease("kube-node-lease", "vnode.b1.dev", "1", holder="r0", renew_time="1", transitions=7)
KEY = "kube-node-lease/vnode.b1.dev"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_is_unchanged_since_it_last_changed() -> None:
    clock = Clock()
    records = LeaseRecords(clock)
    records.observe(KEY, LEASE)
    clock.now = 5.0
    records.observe(KEY, replace(LEASE, resource_version="2", annotations={"somebody": "else's"}))
    assert records.unchanged_since(LEASE) == 0.0
    records.observe(KEY, replace(LEASE, renew_time="2"))
    assert records.unchanged_since(replace(LEASE, renew_time="2")) == 5.0


def test_an_unseen_or_replaced_lease_counts_as_unchanged_since_now() -> None:
    clock = Clock()
    records = LeaseRecords(clock)
    clock.now = 9.0
    assert records.unchanged_since(LEASE) == 9.0
    records.observe(KEY, LEASE)
    records.observe(KEY, None)
    clock.now = 11.0
    assert records.unchanged_since(LEASE) == 11.0


def test_how_a_lease_ended_is_remembered_until_the_next_one_ends() -> None:
    clock = Clock()
    records = LeaseRecords(clock)
    assert records.last(KEY) is None
    records.observe(KEY, LEASE)
    clock.now = 3.0
    records.observe(KEY, None)
    for _ in range(3):
        clock.now += 1.0
        records.observe(KEY, None)
        last = records.last(KEY)
        assert last is not None
        assert (last.holder, last.transitions, records.absent_since(KEY)) == ("r0", 7, 3.0)
    records.observe(KEY, replace(LEASE, holder="r1", transitions=2))
    records.observe(KEY, None)
    last = records.last(KEY)
    assert last is not None
    assert (last.holder, last.transitions) == ("r1", 7), "gateways remember the highest"


def test_a_lease_that_was_never_seen_is_gone_since_somebody_asked() -> None:
    clock = Clock()
    records = LeaseRecords(clock)
    clock.now = 2.0
    assert records.last(KEY) is None
    clock.now = 5.0
    assert records.absent_since(KEY) == 5.0
    clock.now = 9.0
    assert records.absent_since(KEY) == 5.0
    records.observe(KEY, LEASE)
    records.observe(KEY, None)
    assert records.absent_since(KEY) == 9.0
    assert records.last(KEY) == LEASE


events = st.one_of(
    st.none(), st.builds(lambda h, f, t: replace(LEASE, holder=h, transitions=f, renew_time=t),
                         st.sampled_from(["r0", "r1"]), st.integers(0, 9), st.sampled_from("123"))
)  # fmt: skip


@given(st.lists(st.tuples(events, st.floats(0.0, 60.0)), max_size=20), events)
def test_any_history_gives_an_answer_to_any_question(
    history: list[tuple[Lease | None, float]], asked: Lease | None
) -> None:
    clock = Clock()
    records = LeaseRecords(clock)
    highest = last = 0
    for lease, seconds in history:
        clock.now += seconds
        records.observe(KEY, lease)
        if lease is not None:
            last = lease.transitions
        elif last:
            highest, last = max(highest, last), 0
        gone = records.last(KEY)
        assert (gone.transitions if gone is not None else 0) == highest
    assert records.unchanged_since(asked or LEASE) <= clock.now
