"""Results of probes count as in a kubelet, with its thresholds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.probes import (
    NO_PROBES,
    NOT_YET,
    HttpGet,
    Outcome,
    Port,
    Probe,
    Probes,
    Reading,
    TcpSocket,
    current,
    first,
    take,
)

READY = Probe(HttpGet(Port(80)), success_threshold=2, failure_threshold=3)
STARTUP = Probe(TcpSocket(Port(80)), failure_threshold=2)
READINESS = Probes(readiness=READY)
BOTH = Probes(STARTUP, READY)


def after(probes: Probes, results: str, *, started: bool = False, ready: bool = False) -> Reading:
    """The reading after results: + is a success, each other character a failure with that message."""
    reading = first(probes, "r", started=started, ready=ready)
    for number, result in enumerate(results):
        reading = take(probes, reading, Outcome(result == "+", "" if result == "+" else f"{result}{number}"))
    return reading


@pytest.mark.parametrize(
    ("results", "ready", "why"),
    [
        ("", False, NOT_YET),
        ("+", False, NOT_YET),
        ("++", True, ""),
        ("+-+", False, NOT_YET),
        ("--", False, NOT_YET),
        ("---", False, "-2"),
        ("----", False, "-2"),
        ("---+", False, "-2"),
        ("---++", True, ""),
        ("++--+--", True, ""),
        ("++---", False, "-4"),
        ("++---+", False, "-4"),
    ],
)
def test_readiness_follows_its_thresholds(results: str, ready: bool, why: str) -> None:
    reading = after(READINESS, results)
    assert (reading.started, reading.ready, reading.why) == (True, ready, why)


@pytest.mark.parametrize(
    ("results", "started", "ready", "why"),
    [
        ("", False, False, NOT_YET),
        ("-", False, False, NOT_YET),
        ("--", False, False, "-1"),
        ("--+", True, False, NOT_YET),
        ("+", True, False, NOT_YET),
        ("+++", True, True, ""),
        ("+++---", True, False, "-5"),
    ],
)
def test_readiness_waits_for_the_startup_probe(results: str, started: bool, ready: bool, why: str) -> None:
    reading = after(BOTH, results)
    assert (reading.started, reading.ready, reading.why) == (started, ready, why)
    assert current(BOTH, reading) is (READY if started else STARTUP)


def test_a_startup_probe_alone_is_not_repeated_after_its_success() -> None:
    alone = Probes(startup=STARTUP)
    assert not after(alone, "-").ready
    reading = after(alone, "+")
    assert (reading.started, reading.ready) == (True, True)
    assert current(alone, reading) is None
    assert take(alone, reading, Outcome(False, "late")) == reading


def test_without_probes_a_module_that_runs_is_ready() -> None:
    reading = first(NO_PROBES, "r", started=True, ready=True)
    assert (reading.started, reading.ready, current(NO_PROBES, reading)) == (True, True, None)
    assert not NO_PROBES


def test_after_our_restart_the_pods_status_holds_until_probes_change_it() -> None:
    assert after(BOTH, "", started=True, ready=True).ready
    assert after(BOTH, "--", started=True, ready=True).ready
    assert not after(BOTH, "---", started=True, ready=True).ready
    # Ready without having started is a contradiction that a status may hold all the same.
    assert not after(BOTH, "", started=False, ready=True).ready


@given(st.text(alphabet="+-", max_size=30), st.booleans(), st.booleans())
def test_a_reading_has_a_reason_exactly_when_it_is_not_ready(results: str, started: bool, ready: bool) -> None:
    for probes in (READINESS, BOTH, Probes(startup=STARTUP)):
        reading = after(probes, results, started=started, ready=ready)
        assert bool(reading.why) is not reading.ready
        assert reading.started or not reading.ready
