"""The query of /containerLogs becomes that for the log of the base."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kubelet.requests import log_options

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


def test_values_are_left_to_the_api_server() -> None:
    assert query(tailLines="ten", sinceSeconds="-1", limitBytes="") == {"tailLines": "ten", "sinceSeconds": "-1"}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(st.characters(), max_size=30)), max_size=6))
def test_any_query_is_options_that_can_be_sent(pairs: list[tuple[str, str]]) -> None:
    options = log_options(pairs)
    assert set(options) <= set(NAMES) - {"other"}
    assert urlencode(options).isascii()
