"""Each log line is one object with the bound values, whichever logger wrote it."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest
import structlog
from aiohttp import ClientConnectionResetError
from aiohttp.http_exceptions import BadHttpMessage

from service import logs
from service.secrets import Registry
from service.wording import unsafe


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
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
    assert (first["level"], first["program"], first["logger"]) == ("info", "test", "x")
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


def test_a_peer_that_breaks_its_connections_is_logged_once_a_minute_without_a_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test")
    for _ in range(3):
        try:
            raise ClientConnectionResetError("Cannot write to closing transport")
        except ClientConnectionResetError as error:
            logging.getLogger("aiohttp.server").error("Error handling request from %s", None, exc_info=error)
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["level"]) == ("the peer ? broke its connection before it was answered", "warning")
    assert "exception" not in line


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


HOSTILE = "\x1b]0;owned\x07 \u202etxt.exe \udc80 two\r\nlines"


@pytest.mark.parametrize("log_format", list(logs.LogFormat))
def test_a_line_is_written_whatever_is_in_it(log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format, logs.LogLevel.INFO, program="test")

    class Unreadable:
        def __repr__(self) -> str:
            raise RuntimeError("it has no text")

    structlog.get_logger("x").info(HOSTILE, of=Unreadable(), number=2**80, nested={1: {2: Unreadable()}}, text=HOSTILE)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "owned" in printed
    assert "\x1b]" not in printed


def test_what_would_steer_a_terminal_is_not_shown_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.INFO, program="test")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        structlog.get_logger("x").exception(HOSTILE, text=HOSTILE)
    printed = capsys.readouterr().err
    assert not {char for char in printed if unsafe(char)} - {"\n", "\x1b"}
    assert "\x1b]" not in printed


def test_a_line_that_cannot_be_rendered_or_written_is_lost_and_fails_nobody(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch, io.StringIO() as closed:
        patch.setattr(sys, "stderr", closed)
        logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test")
    structlog.get_logger("x").info("nowhere")
    monkeypatch.setattr(logs, "_as_json", fail)
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test")
    structlog.get_logger("y").warning("it has no form", secret="s3cret-value")
    printed = capsys.readouterr().err
    assert "a log line of x is lost: ValueError" in printed
    assert "a log line of y is lost: RuntimeError" in printed
    assert "s3cret-value" not in printed


def test_arguments_of_a_line_that_cannot_be_rendered_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test")
    logging.getLogger("library").warning("%d users, %s", "s3cret-value")
    printed = capsys.readouterr().err
    assert "a log line of library is lost: TypeError" in printed
    assert "s3cret-value" not in printed


def test_what_nobody_caught_is_one_masked_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test")

    def fail(authorization: str) -> None:
        raise ValueError("http://user:pass-word@proxy:3128 refuses")

    thread = threading.Thread(target=fail, args=("Bearer ".ljust(40, "x"),))
    thread.start()
    thread.join()
    try:
        fail("Bearer ".ljust(40, "x"))
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["a defect that nothing caught"] * 2
    assert not any(secret in line for line in lines for secret in ("pass-word", "xxxx"))


def test_a_known_secret_is_in_no_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    known = Registry()
    monkeypatch.setattr("service.masking.KNOWN", known)
    known.register("a", "plain-looking-value")
    logs.configure(logs.LogFormat.JSON, logs.LogLevel.INFO, program="test", replica="plain-looking-value")
    try:
        raise ValueError({"headers": ["plain-looking-value"]})
    except ValueError as error:
        structlog.get_logger("x").exception("with plain-looking-value", error=error, all={"plain-looking-value": 1})
    printed = capsys.readouterr().err
    assert "plain-looking" not in printed
    assert printed.count("***") >= 5
