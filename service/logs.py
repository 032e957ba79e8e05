"""Structured logs on standard error: one JSON object a line, or columns for people.

Every line carries the program and what was bound; loggers of libraries go the same way. What a peer of an HTTP port
sends that is not HTTP/1 (HTTP/2, TLS, a scanner's bytes) is one line a minute for each peer, without a trace. Secrets
are masked, and traces show no values of variables.
"""

import logging
import sys
import time
from enum import Enum
from io import StringIO
from typing import Any, TextIO

import orjson
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, ExcInfo, Processor

from service.limits import LogLimit
from service.masking import masked, masked_deep

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
    """Makes one line for each peer of what aiohttp's server logs with a trace of every broken request."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = LogLimit(PEER_INTERVAL)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a line pass, a broken request's at most once in a while and in other words."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        peer = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "?"
        held_back = self._limit.admit(peer, time.monotonic())
        if held_back is None:
            return False
        # After the words it shows the bytes.
        cause = " ".join(error.message.split()).partition(" b'")[0].rstrip(":")[:200]
        record.msg, record.args = "request from %s refused: it is no HTTP/1 request (%s)", (peer, cause)
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
    final: list[Processor] = [
        _mask,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain),
    ]
    if log_format is LogFormat.JSON:
        final = [_TRACEBACKS, _mask, structlog.processors.JSONRenderer(serializer=_as_json)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level.value),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.name)
    logging.getLogger("aiohttp.server").filters[:] = [NotHttp()]
    for noisy in ("aiohttp.access", "asyncio", "urllib3", "grpc._cython"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


# Without the values of variables: credentials are among them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def _as_json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=lambda value: masked(str(value))).decode()


def _mask(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: value if key == "exc_info" else masked_deep(value) for key, value in event.items()}


def _plain(stream: TextIO, exc_info: ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(masked(text.getvalue()))
