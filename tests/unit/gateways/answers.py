"""Answers of bases, as HTTP and as what the tunnel gets of them."""

import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from gateways.http.arklet_client import Answer
from gateways.http.memory import AnswerMemory
from gateways.http.responses import Response


def parse(answer: bytes, step: int = 1 << 30, memory: AnswerMemory | None = None) -> bytes:
    """Return the body of an answer that comes in parts of so many bytes. Raises Lost."""
    response = Response((memory or AnswerMemory()).share(lambda: None))
    for start in range(0, len(answer), step):
        if response.feed(answer[start : start + step]):
            break
    return response.end()


@asynccontextmanager
async def received(body: Awaitable[bytes], seconds: float = 0.0) -> AsyncIterator[Answer]:
    """Have an answer of this body, which took so many seconds of CPU time."""
    yield Answer(await body, seconds, time.thread_time())
