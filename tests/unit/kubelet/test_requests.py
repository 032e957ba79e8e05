"""The query of /containerLogs is read as a kubelet reads it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kubelet.requests import RequestRefused, log_options

NAMES = ("follow", "previous", "timestamps", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream", "other")


def query(**options: str) -> dict[str, str]:
    return log_options(options.items())


def test_an_empty_query_is_the_whole_log() -> None:
    assert log_options(()) == {}


def test_all_options_of_kubectl_are_taken() -> None:
    options = {
        "follow": "true",
        "previous": "true",
        "timestamps": "true",
        "tailLines": "0",
        "limitBytes": "1",
        "sinceTime": "2026-01-31T12:00:00.123456789+02:00",
    }
    assert query(**options) == options
    assert query(sinceSeconds="3600", stream="Stderr") == {"sinceSeconds": "3600", "stream": "Stderr"}


def test_the_first_of_a_name_counts_and_unknown_ones_are_ignored() -> None:
    options = log_options([("tailLines", "5"), ("tailLines", "7"), ("pretty", "true"), ("container", "other")])
    assert options == {"tailLines": "5"}


@pytest.mark.parametrize(("text", "follows"), [("true", True), ("1", True), ("", True), ("False", False), ("0", False)])
def test_flags_are_read_as_kubernetes_reads_them(text: str, follows: bool) -> None:
    assert ("follow" in log_options([("follow", text)])) is follows


def test_all_streams_is_what_every_version_of_kubernetes_gives() -> None:
    assert query(stream="All") == {}


@pytest.mark.parametrize(
    "options",
    [
        {"tailLines": "-1"},
        {"tailLines": "ten"},
        {"tailLines": "１"},
        {"tailLines": "9" * 5000},
        {"sinceSeconds": "0"},
        {"limitBytes": "0"},
        {"limitBytes": str(2**63)},
        {"sinceTime": "yesterday"},
        {"sinceTime": "2026-13-31T12:00:00Z"},
        {"sinceTime": "2026-01-31"},
        {"sinceTime": "2026-01-31T12:00:00Z", "sinceSeconds": "1"},
        {"stream": "stdin"},
    ],
)
def test_an_impossible_query_is_refused_with_a_reason(options: dict[str, str]) -> None:
    with pytest.raises(RequestRefused) as refused:
        log_options(options.items())
    assert refused.value.status == 400
    assert any(name in refused.value.text for name in options)
    assert len(refused.value.text) < 200


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=30)), max_size=6))
def test_any_query_is_options_or_a_refusal(pairs: list[tuple[str, str]]) -> None:
    with suppress(RequestRefused):
        assert set(log_options(pairs)) <= set(NAMES) - {"other"}
