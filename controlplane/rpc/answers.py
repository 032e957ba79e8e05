"""Answers to mutations: one that is sent again with its request id is answered again and not done again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from controlplane.app.operations import Refusal

KEPT = 1000

T = TypeVar("T", bound=Message)


class Answers:
    """The answers given last, by request id. A failure is forgotten, so that it may be tried again."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, asyncio.Future[Any]] = OrderedDict()

    async def once(self, what: str, request_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work unless this request was done or is under way; return its answer. Raises Refusal."""
        if not request_id or len(request_id) > 128:
            raise Refusal("request_id is needed, at most 128 characters", "request_id")
        key = f"{what}/{request_id}"
        running = self._given.get(key)
        if running is None:
            running = asyncio.ensure_future(work())
            self._given[key] = running
            running.add_done_callback(lambda done: self._forget_failure(key, done))
            while len(self._given) > KEPT:
                self._given.popitem(last=False)
        # A caller that goes away does not stop what it began.
        answer: T = await asyncio.shield(running)
        return answer

    def _forget_failure(self, key: str, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._given.pop(key, None)
