"""mctl prints harmless text, JSON, YAML and tables, and reads durations and addresses."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import typer
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.connection import server_address
from mctl.invocation import seconds
from mctl.kinds import ADDED, DELETED, MODIFIED, MODULE, VNODE, ItemChange
from mctl.output import Format, Printer, aligned, to_json, to_yaml
from mctl.text import age
from service.wording import clean, unsafe

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def module(message: str = "", name: str = "biz1") -> pb.Module:
    return pb.Module(vnode="v", name=name, version="1", state="ACTIVATED", ready=True, pod="p", message=message)


@given(text=texts)
def test_clean_text_is_one_harmless_line(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned.splitlines()) <= 1
    assert not any(map(unsafe, cleaned))
    assert clean(cleaned) == cleaned


@given(text=st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_plain_text_stays(text: str) -> None:
    assert clean(text) == text


@given(value=st.dictionaries(texts, texts, max_size=3))
def test_json_and_yaml_are_harmless_and_exact(value: dict[str, str]) -> None:
    for text, read in ((to_json(value), json.loads), (to_yaml(value), yaml.safe_load)):
        assert read(text) == value
        assert not any(unsafe(c) for c in text if c != "\n")


def test_chinese_stays_readable_and_aligned() -> None:
    assert "端口" in to_json({"message": "端口"})
    assert "端口" in to_yaml({"message": "端口"})
    assert aligned([["端口", "x"], ["abcd", "y"]]) == ["端口  x", "abcd  y"]


def test_json_of_a_change_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(MODULE, Format.JSON).print_changes([ItemChange(ADDED, module("a\nb"))])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["object"]["message"] == "a\nb"


def test_yaml_changes_are_documents(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = (ADDED, DELETED)
    Printer(MODULE, Format.YAML).print_changes(ItemChange(kind, module()) for kind in kinds)
    assert [d["type"] for d in yaml.safe_load_all(capsys.readouterr().out)] == ["ADDED", "DELETED"]


def test_rows_of_a_watch_have_one_header_and_growing_columns(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("a", "a-much-longer-name", "b")
    Printer(MODULE, Format.TABLE).print_changes(ItemChange(MODIFIED, module(name=name)) for name in names)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("CHANGE")
    assert [row.split()[2] for row in rows] == ["a", "a-much-longer-name", "b"]
    assert rows[1].index("ACTIVATED") == rows[2].index("ACTIVATED")


def test_times_are_utc() -> None:
    vnode = pb.VNode(last_seen=Timestamp(seconds=1_767_322_800, nanos=1_500_000))
    assert VNODE.document(vnode)["lastSeen"] == "2026-01-02T03:00:00.001Z"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (8 * 3600 - 1, "7h59m"),
        (8 * 3600 + 1800, "8h"),
        (48 * 3600, "2d"),
        (53 * 3600, "2d5h"),
        (192 * 3600 - 1, "7d23h"),
        (192 * 3600, "8d"),
        (730 * 86400 - 1, "729d"),
        (730 * 86400, "2y"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400 + 86400, "9y"),
    ],
)
def test_ages_are_those_of_kubectl(seconds: int, shown: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == shown


@pytest.mark.parametrize(("text", "expected"), [("500ms", 0.5), ("30", 30), ("1.5m", 90), ("2h", 7200), (" 1s ", 1)])
def test_durations_are_read_in_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1s", "1d", "1s2", "nan", "inf", "999999h", "1e3s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration"):
        seconds(text)


@pytest.mark.parametrize("text", ["localhost:1", "10.0.0.1:65535", "[::1]:50051", "a-b.c_d:80"])
def test_addresses_are_taken_as_they_are(text: str) -> None:
    assert server_address(text) == text


@pytest.mark.parametrize("text", ["", "host", ":1", "host:0", "host:65536", "::1:5", "http://h:1", "h:1/x", "unix:/a"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no host:port"):
        server_address(text)
