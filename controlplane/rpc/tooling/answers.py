"""Answers to mutations: one that is sent again with its request id is answered again and not done again.

A caller that goes away does not stop what it began. All that is under way belongs to Answers, which ends it with the
replica.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.tooling.refusals import RequestError
from controlplane.rpc.access.guard import CALLER
from controlplane.rpc.refusals import Busy, Ending

KEPT = 1000
"""Answers that are remembered."""
MOST_UNDER_WAY = 200
"""Mutations that are under way at once; more are refused."""

T = TypeVar("T", bound=Message)
Mutation: TypeAlias = (
    pb.InstallModuleRequest | pb.UninstallModuleRequest | pb.ApplyManifestRequest | pb.DeleteManifestRequest
)


@dataclass(frozen=True, slots=True)
class _Given:
    """What was asked, as a digest, and what answers it."""

    digest: bytes
    task: asyncio.Task[Any]

    @property
    def failed(self) -> bool:
        """Whether it failed, at least for one Pod: then it may be tried again."""
        task = self.task
        if not task.done():
            return False
        if task.cancelled() or task.exception() is not None:
            return True
        return any(operation.result == "failed" for operation in getattr(task.result(), "operations", ()))


class Answers:
    """The answers given last, by request id. One that reports a failure is forgotten."""

    def __init__(self) -> None:
        self._given: dict[str, _Given] = {}

    async def once(self, what: str, request: Mutation, work: Callable[[], Coroutine[None, None, T]]) -> T:
        """Do the work unless this request was done or is under way; return its answer.

        Raises RequestError, Busy, what work raised, and Ending where the replica ended first.
        """
        if not request.request_id or len(request.request_id) > 128:
            raise RequestError("request_id is needed, at most 128 characters", "request_id")
        # Ids are chosen by callers: one that another user chose is another one.
        key = f"{CALLER.get().user}/{what}/{request.request_id}"
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        given = self._given.get(key)
        if given is None or given.failed:
            given = self._begin(key, digest, work)
        elif given.digest != digest:
            raise RequestError(
                f"request_id {request.request_id!r} was used for another request: choose a new one for each",
                "request_id",
            )
        try:
            return cast("T", await asyncio.shield(given.task))
        except asyncio.CancelledError:
            # gRPC raises this also where a channel was closed: then nobody cancels this task.
            task = asyncio.current_task()
            if given.task.cancelled() and not (task is None or task.cancelling()):
                raise Ending("it may be done in part") from None
            raise

    def _begin(self, key: str, digest: bytes, work: Callable[[], Coroutine[None, None, T]]) -> _Given:
        self._given = {key: given for key, given in self._given.items() if not given.failed}
        done = [key for key, given in self._given.items() if given.task.done()]
        if len(self._given) - len(done) >= MOST_UNDER_WAY:
            raise Busy(f"{MOST_UNDER_WAY} changes are under way already: ask again later")
        for oldest in done[: max(len(self._given) + 1 - KEPT, 0)]:
            del self._given[oldest]
        task = asyncio.get_running_loop().create_task(work(), name=key)
        self._given[key] = _Given(digest, task)
        return self._given[key]

    async def finish(self, within: float) -> None:
        """Let what is under way end within so many seconds, then cancel it; nothing of it runs any more after that."""
        if under_way := [given.task for given in self._given.values() if not given.task.done()]:
            await asyncio.wait(under_way, timeout=within)
            for task in under_way:
                task.cancel()
            await asyncio.wait(under_way)
