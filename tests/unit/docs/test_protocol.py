"""docs/protocol.md says what was recorded from real bases."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateways.http.arklet_client import DEFAULT_PORT
from tests.recordings import HTTP, MQTT
from tests.unit.docs.pages import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")

_BLOCK = re.compile(
    r"(?:^<!-- recorded as: (?P<id>\S+)(?: (?P<member>\S+))? -->\n)?"
    r"^```(?P<kind>json|http)\n(?P<text>.*?)^```\n(?:\n```http\n(?P<reply>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_CODE = re.compile(r"`([^`]+)`")
_VERBS = "heartbeat|connection|health|queryAllBiz|installBiz|uninstallBiz|switchBiz|batchInstallBiz|queryBizOps|mqtt"
_NAMED = re.compile(rf"`((?:{_VERBS})-[\w.-]+)`")


@dataclass(frozen=True)
class Block:
    """An example: JSON, or a request and maybe its reply; with the recording that it is a part of."""

    recorded: str | None
    member: str | None
    kind: str
    text: str
    reply: str | None


BLOCKS = [
    Block(found["id"], found["member"], found["kind"], found["text"], found["reply"]) for found in _BLOCK.finditer(PAGE)
]


def rows() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the first header, the first cell and the recordings of each row in tables that name recordings."""
    header: list[str] = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] if line.startswith("|") else []
        if cells and header and set(cells[0]) != {"-"} and header[-1] == "recorded as":
            yield header[0], cells[0], _CODE.findall(cells[-1])
        header = header if cells and header else cells


def content(recorded: str) -> str:
    """Return all that was sent and answered."""
    if recorded in MQTT:
        return MQTT[recorded].payload.decode()
    return (HTTP[recorded].request + HTTP[recorded].reply).decode()


def part_of(shown: Any, recorded: Any) -> bool:
    """Return whether shown is recorded without some members and items, in the same order."""
    if isinstance(shown, dict) and isinstance(recorded, dict):
        order = [name for name in recorded if name in shown]
        return list(shown) == order and all(part_of(shown[name], recorded[name]) for name in order)
    if isinstance(shown, list) and isinstance(recorded, list):
        rest = iter(recorded)
        return all(any(part_of(item, other) for other in rest) for item in shown)
    return type(shown) is type(recorded) and bool(shown == recorded)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.recorded}-{block.kind}")
def test_an_example_is_part_of_a_recording(block: Block) -> None:
    assert block.recorded, "name the recording in a comment before it"
    if block.kind == "http":
        exchange = HTTP[block.recorded]
        assert block.text.replace("\n", "\r\n").rstrip() == exchange.request.decode().rstrip()
        if block.reply is not None:
            assert block.reply.replace("\n", "\r\n").rstrip() == exchange.reply.decode().rstrip()
        return
    recorded = MQTT[block.recorded].json() if block.recorded in MQTT else HTTP[block.recorded].json()
    assert part_of(json.loads(block.text), recorded[block.member] if block.member else recorded)


def test_examples_of_all_kinds_are_found() -> None:
    assert len(BLOCKS) == PAGE.count("```json") + PAGE.count("```http") - 1, "one request has its reply behind it"


def test_recordings_that_are_named_exist() -> None:
    named = {name for *_, names in rows() for name in names} | set(_NAMED.findall(PAGE))
    assert named <= HTTP.keys() | MQTT.keys()
    assert len(named) > 40


ANSWERS = [(cell, names) for table, cell, names in rows() if table == "answer" and names and _CODE.search(cell)]
"""Rows without code say what became of the connection."""


@pytest.mark.parametrize(("cell", "names"), ANSWERS, ids=[f"{n}-{names[0]}" for n, (_, names) in enumerate(ANSWERS)])
def test_statements_on_an_answer_hold_in_each_recording(cell: str, names: list[str]) -> None:
    absent = "Caused by" if "no `Caused by`" in cell else ""
    for word in _CODE.findall(cell):
        # The bytes have the name of a member in data without its prefix; PATH stands for any text.
        mark = re.escape(word.removeprefix("data.")).replace("PATH", r"[^]]*")
        for name in names:
            assert bool(re.search(mark, content(name))) is (word != absent), f"{word} in {name}"


TOPICS = [(_CODE.findall(cell), names) for table, cell, names in rows() if table.startswith("topic")]


@pytest.mark.parametrize(("topics", "names"), TOPICS, ids=[f"{n}-{t[0]}" for n, (t, _) in enumerate(TOPICS)])
def test_topics_are_those_recorded(topics: list[str], names: list[str]) -> None:
    assert {MQTT[name].topic.split("/", 2)[2] for name in names} == set(topics)


def test_validation_errors_have_no_cause() -> None:
    for name in ("installBiz-invalid", "uninstallBiz-invalid", "batchInstallBiz-invalid"):
        assert "Caused by" not in content(name)


def test_mqtt_messages_have_qos_1_no_retain_and_no_identity() -> None:
    assert "Everything recorded has QoS 1 and is not retained" in PAGE
    assert {(message.qos, message.retain) for message in MQTT.values()} == {(1, False)}
    assert "baseIdentity" not in "".join(message.payload.decode() for message in MQTT.values())


def test_http_answers_name_the_base_only_after_a_command_ran() -> None:
    """There are no headers, and neither baseIdentity nor data where a command did not run."""
    seen: set[bool] = set()
    for exchange in HTTP.values():
        if exchange.verb in ("heartbeat", "GET health") or exchange.reply_head is None:
            continue
        assert exchange.reply_head == b"HTTP/1.1 200 OK\r\n\r\n"
        answer = exchange.json()
        ran = answer["code"] in ("SUCCESS", "FAILED")
        assert ("baseIdentity" in answer) is ran
        assert ran or "data" not in answer
        seen.add(ran)
    assert seen == {True, False}


def test_only_orders_have_a_second_code() -> None:
    orders = {"installBiz", "uninstallBiz", "switchBiz", "batchInstallBiz"}
    coded: set[str] = set()
    others: set[str] = set()
    for exchange in HTTP.values():
        if exchange.verb != "heartbeat" and exchange.reply_body and exchange.reply_body.startswith(b"{"):
            data = exchange.json().get("data")
            if data is not None:
                (coded if isinstance(data, dict) and "code" in data else others).add(exchange.verb)
    assert coded == orders
    assert others == {"health", "help", "queryAllBiz"}


def test_module_lists_leave_out_the_base() -> None:
    """Web context paths of modules have no slash."""
    listings = [each.json() for each in HTTP.values() if each.verb == "queryAllBiz" and each.reply_body]
    entries = [entry for listing in listings for entry in listing["data"]]
    assert "shop-base" not in {entry["bizName"] for entry in entries}
    paths = {entry["webContextPath"] for entry in entries}
    assert len(paths) > 1
    assert not [path for path in paths if path.startswith("/")]


def test_the_default_port_is_that_of_the_gateway() -> None:
    assert f"Missing, null, 0 or an empty text: {DEFAULT_PORT}." in PAGE
