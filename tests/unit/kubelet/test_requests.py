"""The query of /containerLogs becomes that for the log of the base."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kubelet.requests import explanation, handshake, log_options, stream_options

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


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "[module-controller] it is away\n"),
        ({"tailLines": "0", "follow": "true"}, "[module-controller] it is away\n"),
        ({"timestamps": "true", "limitBytes": "40"}, "2026-01-31T12:00:00Z [module-controller] "[:40]),
        ({"limitBytes": "0"}, ""),
        ({"limitBytes": "-1"}, "[module-controller] it is away\n"),
    ],
)
def test_in_place_of_a_log_that_is_nowhere_is_one_line(options: dict[str, str], line: str) -> None:
    assert explanation("it is away", options, NOON) == line


@given(st.text(max_size=20), st.integers(0, 200))
def test_it_has_no_more_bytes_than_are_wanted(text: str, limit: int) -> None:
    assert len(explanation(text, {"limitBytes": str(limit)}, NOON).encode(errors="replace")) <= limit


@pytest.mark.parametrize(
    ("kind", "asked", "options"),
    [
        (
            "exec",
            "command=sh&command=-c&command=a%26b&input=1&output=1&error=1&tty=0",
            "container=base&stdin=true&stdout=true&stderr=true&command=sh&command=-c&command=a%26b",
        ),
        ("exec", "command=ls&output=1&container=other&pretty=true", "container=base&stdout=true&command=ls"),
        ("attach", "input=1&output=1&tty=1&command=ls", "container=base&stdin=true&stdout=true&tty=true"),
        ("portforward", "", ""),
        ("portforward", "port=80,443&port=22&command=ls", "ports=80&ports=443&ports=22"),
    ],
)
def test_a_query_of_kubelets_becomes_one_of_the_api_server(kind: str, asked: str, options: str) -> None:
    assert urlencode(stream_options(kind, parse_qsl(asked), "base")) == options


@given(st.lists(st.tuples(st.sampled_from(["command", "input", "port"]), st.text(st.characters(), max_size=9))))
def test_any_query_of_kubelets_can_be_sent_on(pairs: list[tuple[str, str]]) -> None:
    for kind in ("exec", "attach", "portforward"):
        assert urlencode(stream_options(kind, pairs, "base")).isascii()


def test_only_what_says_which_protocol_is_wanted_is_sent_on() -> None:
    wanted = [
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ("X-Stream-Protocol-Version", "v3.channel.k8s.io"),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
    ]
    others = [("Authorization", "Bearer secret"), ("Connection", "keep-alive"), ("Host", "x"), ("Cookie", "a=b")]
    assert handshake([*others, *wanted]) == [("Connection", "Upgrade"), *wanted]
    assert handshake([*others, *wanted[1:]]) == []
