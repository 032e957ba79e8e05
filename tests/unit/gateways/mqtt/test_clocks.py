"""No list counts as newer than it is, in a model of bases, networks and other gateways."""

import heapq
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.mqtt.clocks import GUARD, WINDOW, Clocks, Epochs


@dataclass(frozen=True)
class Message:
    """A list or heartbeat: when it was made, how long it travels, and how much later a copy arrives."""

    made: float
    transit: float
    again: float | None


def messages() -> st.SearchStrategy[Message]:
    transit = st.floats(0.001, 12.0)
    quick = st.floats(0.001, 0.5)
    return st.builds(Message, st.floats(0, 100), quick | transit, st.none() | st.floats(0.0, 20.0))


@given(
    # Lists come from our questions, from late ones, from those of other gateways: it makes no difference.
    st.lists(messages(), min_size=1, max_size=40),
    st.lists(st.floats(0, 100), min_size=1, max_size=6, unique=True),
    st.floats(-1e6, 1e6),
    st.floats(0.001, GUARD * 0.9),
)
def test_a_list_never_carries_an_epoch_that_began_after_it_was_made(
    sent: list[Message], began: list[float], ahead: float, pause: float
) -> None:
    """This holds when some message arrives quickly, as heartbeats do: here one every 5 s."""
    heartbeats = [Message(at, 0.01, None) for at in range(0, 130, 5)]
    arrivals: list[tuple[float, float]] = []
    for message in sent:
        arrivals.append((message.made + message.transit, message.made))
        if message.again is not None:
            arrivals.append((message.made + message.transit + message.again, message.made))
    arrivals += [(heartbeat.made + heartbeat.transit, heartbeat.made) for heartbeat in heartbeats]
    heapq.heapify(arrivals)
    starts = sorted(began)
    clocks, epochs, next_start = Clocks(), Epochs(1, 0, 0.0), 0
    while arrivals:
        now, made = heapq.heappop(arrivals)
        while next_start < len(starts) and starts[next_start] <= now:
            epochs.begin(next_start + 1, starts[next_start])
            next_start += 1
        # The base looked at its modules a pause before it stamped what it saw.
        estimate = clocks.made_at("base", made + ahead, now)
        credited = epochs.of(estimate)
        truth = sum(start <= made - pause for start in starts)
        assert credited <= truth
        if estimate is not None:
            assert estimate <= made + 0.01 + 1e-6


def test_prompt_answers_reach_the_epoch_after_the_guard() -> None:
    clocks, epochs = Clocks(), Epochs(1, 7, 100.0)
    assert clocks.made_at("base", 5000.0, 99.0) is None
    assert epochs.of(clocks.made_at("base", 5001.01, 100.02)) == 0
    assert epochs.of(clocks.made_at("base", 5002.26, 101.27)) == 7


def test_the_first_message_of_a_base_does_not_show_its_clock() -> None:
    assert Clocks().made_at("base", 5000.0, 1.0) is None


def test_a_clock_that_was_set_back_costs_a_window_at_most() -> None:
    clocks, epochs = Clocks(), Epochs(1, 1, 0.0)
    now = 0.0
    while now < 20:
        clocks.made_at("base", now, now)
        now += 5
    credited_at = None
    while credited_at is None and now < 20 + 2 * WINDOW:
        epochs.begin(2, 20.0)
        if epochs.of(clocks.made_at("base", now - 3600, now)) == 2:
            credited_at = now
        now += 5
    assert credited_at is not None
    assert credited_at <= 20 + WINDOW + 5


def test_a_clock_that_was_set_forward_is_noticed() -> None:
    clocks, epochs = Clocks(), Epochs(1, 1, 0.0)
    for second in range(0, 20, 5):
        clocks.made_at("base", second, second)
    epochs.begin(2, 20.0)
    assert epochs.of(clocks.made_at("base", 20.0 + 3600, 20.01)) == 1


def test_silence_makes_a_clock_unknown() -> None:
    clocks = Clocks()
    clocks.made_at("base", 0, 0)
    assert clocks.made_at("base", WINDOW, WINDOW) is None


def test_clocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.mqtt.clocks.MAX_CLOCKS", 2)
    clocks = Clocks()
    for base in "abc":
        clocks.made_at(base, 0, 0)
    assert clocks.made_at("a", 1, 1) is None
    assert clocks.made_at("c", 1, 1) is not None


def test_an_epoch_goes_on_with_a_watch_that_repeats_it() -> None:
    epochs = Epochs(1, 1, 0.0)
    epochs.begin(1, 50.0)
    assert epochs.of(2.0) == 1
