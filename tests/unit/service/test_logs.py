"""Log lines: one object each, with what was bound, whoever wrote them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_json_lines_carry_what_was_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test", replica="r")
    structlog.get_logger("x").info("hello", base="b1", module="biz1:1")
    logging.getLogger("library").warning("from a library %s", 5)
    structlog.get_logger("x").debug("not written")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["event"], first["base"], first["module"], first["replica"]) == ("hello", "b1", "biz1:1", "r")
    assert (first["level"], first["program"]) == ("info", "test")
    assert (second["event"], second["replica"]) == ("from a library 5", "r")


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.INFO, program="test")
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger("x").exception("broke")
    printed = capsys.readouterr().err
    assert "broke" in printed
    assert "ValueError: why" in printed
