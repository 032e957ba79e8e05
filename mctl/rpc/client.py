"""A client of the tooling API: deadlines, retries, failures in words.

Every question ends by its deadline, however many calls it takes. Until then are retried, with jittered, capped backoff:
what a server that is away or stops makes of a call, and what one that has too much to do turns away with a time. A call
that is not known as ours is made once more, with a new credential if there is one. Nothing else is retried.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from mctl.auth.access import ServerAccess
from mctl.errors import CommandError, ServerUnreachable, TlsFailed
from mctl.kinds import ADDED, DELETED, EVENT, ItemChange, ItemKind, M
from mctl.pacing import backoff
from mctl.rpc import handshake
from mctl.rpc.channel import open_channel
from mctl.rpc.status import failure, is_lost, is_unknown, no_answer, retry_after

T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response", bound=Message)


_SHORTEST = 0.001
_HANDSHAKE_WITHIN = 2.0
"""Seconds for finding out what is wrong with TLS."""


class ToolingClient:
    """A client of a server, while it is entered; every method raises CommandError.

    All that is asked of a client is answered within timeout seconds from when the client was made; within gives one for
    another question. warn is called with the replicas that could not be asked for what they own, once until they answer
    again.
    """

    def __init__(
        self, access: ServerAccess, timeout: float, warn: Callable[[Sequence[str]], None] = lambda _replicas: None
    ) -> None:
        self.timeout = timeout
        self._access = access
        self._warn = warn
        self._unreachable: set[str] = set()
        self._channel = open_channel(access)
        self.stub = ModuleControllerServiceStub(self._channel)
        self._begin(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def within(self, seconds: float | None = None) -> Self:
        """Return this client for a question that is asked now; seconds can only shorten the client's timeout."""
        other = copy(self)
        other._begin(self.timeout if seconds is None else min(seconds, self.timeout))
        return other

    def _begin(self, seconds: float) -> None:
        self._given = seconds
        self._deadline = time.monotonic() + seconds

    def call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        """Return the answer; a retry sends the same request."""
        return self._answer(partial(method, request))

    def _pages(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        """Yield the items of all pages of a list."""
        while True:
            page = self._answer(partial(method, request))
            yield from page.items
            if page.next_page_token and page.next_page_token == request.page_token:
                raise CommandError("the control plane gave the same page twice: its list cannot be read to the end")
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def vnodes(self, selector: str = "") -> Iterator[pb.VNode]:
        """Yield the VNodes that a label selector matches."""
        return self._pages(self.stub.ListVNodes, pb.ListVNodesRequest(selector=selector))

    def modules(
        self,
        vnode: str = "",
        name: str = "",
        management: pb.Management.ValueType = pb.MANAGEMENT_UNSPECIFIED,
        *,
        show_secrets: bool = False,
    ) -> Iterator[pb.Module]:
        """Yield modules, of one VNode and of one name when given."""
        request = pb.ListModulesRequest(vnode=vnode, name=name, management=management, show_secrets=show_secrets)
        return self._pages(self.stub.ListModules, request)

    def operations(self, vnode: str, name: str) -> Iterator[pb.PastOperation]:
        """Yield the last operations on modules of one name, on one VNode when given."""
        return self._pages(self.stub.ListOperations, pb.ListOperationsRequest(vnode=vnode, name=name))

    def shards(self, owner: str) -> Iterator[pb.Shard]:
        """Yield the VNodes with their owners, those of one replica when given."""
        return self._pages(self.stub.ListShards, pb.ListShardsRequest(owner=owner))

    def replicas(self) -> Sequence[pb.Replica]:
        """Return the replicas of the control plane."""
        return self.call(self.stub.ListReplicas, pb.ListReplicasRequest()).items

    def events(self, vnode: str = "") -> list[pb.Event]:
        """Return the recent events, of one VNode when given, oldest first."""
        request = pb.WatchEventsRequest(vnode=vnode)
        answers = self._answer(
            lambda timeout, metadata: list(self.stub.WatchEvents(request, timeout=timeout, metadata=metadata))
        )
        return [change.item for change in self._changes(answers, EVENT) if change]

    def watch(
        self,
        method: "grpc.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        kind: ItemKind[M],
        seconds: float,
    ) -> Iterator[ItemChange[M] | None]:
        """Yield what the server sends, the first of it within so many seconds; raises ServerUnreachable when it is cut.

        That includes an end because our credential has ended, when there is another one.

        None stands for a message without an item, which comes first when all that there was has been sent.
        """
        call = method(request, metadata=self._access.metadata())
        deadline = time.monotonic() + seconds
        limit = threading.Timer(seconds, call.cancel)
        limit.daemon = True
        limit.start()
        try:
            for change in self._changes(call, kind):
                self._access.accepted()
                limit.cancel()
                deadline = math.inf
                yield change
        except grpc.RpcError as error:
            if time.monotonic() >= deadline:
                raise no_answer(self._access.server, self.timeout) from None
            failed = self._failure(error, self.timeout, seconds)
            raise (ServerUnreachable(*failed.lines) if self._renewed(error) else failed) from None
        finally:
            limit.cancel()
            call.cancel()

    def _changes(self, answers: Iterable[Message], kind: ItemKind[M]) -> Iterator[ItemChange[M] | None]:
        # Which changes are modifications, the watcher knows better: a new stream adds everything again.
        for answer in answers:
            if answer.HasField(kind.name):
                deleted = getattr(answer, "type", None) == pb.CHANGE_TYPE_DELETED
                yield ItemChange(DELETED if deleted else ADDED, getattr(answer, kind.name))
            else:
                self._note(answer)
                yield None

    def _note(self, answer: object) -> None:
        unreachable: Sequence[str] | None = getattr(answer, "unreachable_replicas", None)
        if unreachable is None:
            return
        new = [replica for replica in unreachable if replica not in self._unreachable]
        # One set for this client and all that within made of it.
        self._unreachable.clear()
        self._unreachable.update(unreachable)
        if new:
            self._warn(new)

    def _answer(self, ask: Callable[..., T]) -> T:
        attempt, lost = 0, None
        while True:
            metadata = self._access.metadata()
            left = self._deadline - time.monotonic()
            try:
                answer = ask(timeout=max(_SHORTEST, left), metadata=metadata)
            except grpc.RpcError as error:
                failed = lost if lost and is_lost(error) else self._failure(error, self._given, left)
                lost = failed if is_lost(error) else None
                delay = self._delay(error, failed, attempt)
                if time.monotonic() + delay >= self._deadline:
                    raise failed from None
            else:
                self._access.accepted()
                self._note(answer)
                return answer
            time.sleep(delay)
            attempt += 1

    def _renewed(self, error: grpc.RpcError) -> bool:
        return is_unknown(error) and self._access.renew()

    def _delay(self, error: grpc.RpcError, failed: CommandError, attempt: int) -> float:
        """Return the seconds after which to ask again, infinity where that changes nothing."""
        if isinstance(failed, TlsFailed):
            return math.inf
        return 0.0 if self._renewed(error) else retry_after(error, backoff(attempt))

    def _failure(self, error: grpc.RpcError, given: float, left: float) -> CommandError:
        """Return the failure of a call that was given so many seconds, of which some are left."""
        access = self._access
        if is_lost(error):
            within = min(_HANDSHAKE_WITHIN, max(_SHORTEST, left))
            if problem := handshake.problem(access.server, access.server_name, access.tls, within):
                return TlsFailed(problem.text) if problem.certain else ServerUnreachable(problem.text)
        return failure(error, access.server, given, access.hint)
