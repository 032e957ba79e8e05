"""Structured logs on standard error: one JSON object a line, or columns for people.

Every line carries the program and what was bound; those of libraries look the same, and what nobody caught too.
Our own do not go through logging: it costs three times as much as the line.
What a peer of an HTTP port sends that is not HTTP/1 (HTTP/2, TLS, a scanner's bytes), and that it broke its connection,
is one line a minute for each peer, without a trace. Traces show no values of variables. Before a line is rendered its
secrets are masked; neither fails, whatever is in the line.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Sequence
from enum import Enum
from io import StringIO
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, ExcInfo, Processor

from service.limits import LogLimit
from service.masking import masked, masked_fields
from service.output import complain
from service.wording import clean

PEER_INTERVAL = 60.0
"""Seconds between two lines about one peer that does not speak HTTP/1."""


class LogFormat(Enum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(Enum):
    """Least severity that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NotHttp(logging.Filter):
    """Makes one line for each peer of what aiohttp's server logs with a trace of every request that its peer broke."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = LogLimit(PEER_INTERVAL)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a line pass, a broken request's at most once in a while and in other words."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | ConnectionError):
            return True
        peer = str(record.args[0] or "?") if isinstance(record.args, tuple) and record.args else "?"
        held_back = self._limit.admit(peer, time.monotonic())
        if held_back is None:
            return False
        if isinstance(error, HttpProcessingError):
            # After the words it shows the bytes.
            cause = " ".join(error.message.split()).partition(" b'")[0].rstrip(":")[:200]
            record.msg, record.args = "request from %s refused: it is no HTTP/1 request (%s)", (peer, cause)
        else:
            record.msg, record.args = "the peer %s broke its connection before it was answered", (peer,)
        if held_back:
            record.msg += f"; {held_back} more since the last such line"
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def configure(log_format: LogFormat, level: LogLevel, **bound: str) -> None:
    """Set up logging for the process; bound fields stand on every line."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _method, event: {**bound, **event},
    ]
    render: list[Processor] = [
        _mask,
        _harmless,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain),
    ]
    if log_format is LogFormat.JSON:
        shared.append(structlog.stdlib.add_logger_name)
        render = [_TRACEBACKS, _mask, structlog.processors.JSONRenderer(serializer=_as_json)]
    handler = _Handler(sys.stderr)
    structlog.configure(
        processors=[*shared, _rendered(render)],
        wrapper_class=structlog.make_filtering_bound_logger(level.value),
        logger_factory=lambda *names: _Logger(handler, *names),
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.name)
    logging.getLogger("aiohttp.server").filters[:] = [NotHttp()]
    for noisy in ("aiohttp.access", "asyncio", "urllib3", "grpc._cython"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_elsewhere
    sys.unraisablehook = _uncaught_elsewhere


# Without the values of variables: credentials are among them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; of one that cannot be rendered or written it says so, without what is in it."""

    def write(self, logger: str, line: str) -> None:
        """Write a line that is rendered."""
        self.acquire()
        try:
            self.stream.write(line + self.terminator)
            self.flush()
        except Exception as error:  # a line fails nobody, as in logging
            _lost(logger, error)
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:
        """Say that a line is lost; logging itself would print it, with all arguments."""
        _lost(record.name, sys.exception())


class _Logger:
    """What the loggers of one of our modules write through."""

    def __init__(self, handler: _Handler, name: str = "") -> None:
        self.name = name
        self._handler = handler

    def write(self, line: str) -> None:
        """Write a line, whatever its level: that was looked at before it was rendered."""
        self._handler.write(self.name, line)

    debug = info = warning = error = critical = write


def _rendered(render: Sequence[Processor]) -> Processor:
    """Return what renders a line; one that cannot be rendered is lost, and fails nobody."""

    def line(logger: Any, method: str, event: EventDict) -> Any:
        rendered: Any = event
        try:
            for processor in render:
                rendered = processor(logger, method, rendered)
        except Exception as error:
            _lost(logger.name, error)
            raise structlog.DropEvent from None
        return rendered

    return line


def _lost(logger: str, cause: BaseException | None) -> None:
    complain(f"a log line of {logger} is lost: {type(cause).__name__}")


def _as_json(event: Any, **_: Any) -> str:
    try:
        return orjson.dumps(event).decode()
    except orjson.JSONEncodeError:  # a number of more than 64 bits, half a surrogate pair
        return json.dumps(event)


def _mask(_logger: Any, _method: str, event: EventDict) -> EventDict:
    trace = event.pop("exc_info", None)
    masked_event: EventDict = masked_fields(event)
    return {**masked_event, "exc_info": trace} if trace else masked_event


def _harmless(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Make what would steer a terminal visible."""
    return {key: clean(value) if isinstance(value, str) else value for key, value in event.items()}


def _plain(stream: TextIO, exc_info: ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n".join(map(clean, masked(text.getvalue()).split("\n"))))


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
    else:
        logging.getLogger("uncaught").critical("a defect that nothing caught", exc_info=(kind, error, trace))


def _uncaught_elsewhere(what: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> None:
    """Log what ended a thread, or was raised where nobody can catch it."""
    _uncaught(what.exc_type, what.exc_value, what.exc_traceback)
