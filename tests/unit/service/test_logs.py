"""Each log line is one object with the bound values, whichever logger wrote it."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiohttp.http_exceptions import BadHttpMessage

from service import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.getLogger("aiohttp.server").filters.clear()
    structlog.reset_defaults()


def test_json_lines_have_the_bound_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test", replica="r")
    structlog.get_logger("x").info("hello", base="b1", module="biz1:1")
    logging.getLogger("library").warning("from a library %s", 5)
    structlog.get_logger("x").debug("not written")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["event"], first["base"], first["module"], first["replica"]) == ("hello", "b1", "biz1:1", "r")
    assert (first["level"], first["program"]) == ("info", "test")
    assert (second["event"], second["replica"]) == ("from a library 5", "r")


def test_console_lines_show_event_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.INFO, program="test")
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger("x").exception("broke")
    printed = capsys.readouterr().err
    assert "broke" in printed
    assert "ValueError: why" in printed


def test_a_peer_without_http_is_logged_once_a_minute_without_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test")
    server = logging.getLogger("aiohttp.server")
    for peer in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
        try:
            raise BadHttpMessage("Pause on PRI/Upgrade:\n\n  b'\\x00'")
        except BadHttpMessage as error:
            server.error("Error handling request from %s", peer, exc_info=error)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        (f"request from {peer} refused: it is no HTTP/1 request (Pause on PRI/Upgrade)", "warning")
        for peer in ("10.0.0.1", "10.0.0.2")
    ]
    assert not any("exception" in line for line in lines)


def test_a_defect_of_ours_keeps_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test")
    try:
        raise ValueError("a defect")
    except ValueError as error:
        logging.getLogger("aiohttp.server").error("Error handling request from %s", "10.0.0.1", exc_info=error)
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert "a defect" in json.dumps(line["exception"])


@pytest.mark.parametrize("log_format", list(logs.LogFormat))
def test_no_secret_is_written(log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format, logs.LogLevel.INFO, program="test")
    url = "http://user:pass-word@proxy:3128"

    def ask(authorization: str) -> None:
        raise ValueError(f"403, url={url}")

    try:
        ask("Bearer ".ljust(40, "x"))
    except ValueError as error:
        structlog.get_logger("x").exception("broke", at=url, all=[url], error=error)
        logging.getLogger("library").exception("broke at %s", url)
    printed = capsys.readouterr().err
    assert "pass-word" not in printed
    assert "xxxx" not in printed, "values of variables are not shown"
    assert printed.count("http://***@proxy:3128") >= 6
