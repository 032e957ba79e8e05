"""Structured logs on standard error: one JSON object a line, or columns for people.

Every line carries the program and what was bound; loggers of libraries go the same way.
"""

from __future__ import annotations

import logging
import sys
from enum import Enum
from typing import Any

import orjson
import structlog


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


def configure(log_format: LogFormat, level: LogLevel, **bound: str) -> None:
    """Set up logging for the process; bound fields stand on every line."""

    def bind(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**bound, **event}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        bind,
    ]
    final: list[structlog.typing.Processor]
    if log_format is LogFormat.JSON:
        final = [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=lambda obj, **_: orjson.dumps(obj, default=str).decode()),
        ]
    else:
        plain = structlog.dev.plain_traceback
        final = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.name)),
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
    root.setLevel(getattr(logging, level.name))
    for noisy in ("aiohttp.access", "asyncio", "urllib3", "grpc._cython"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
