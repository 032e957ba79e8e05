"""Translation of gRPC failures to what a person can act on."""

import math
import re
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mctl.errors import CommandError, Forbidden, InvalidFields, ItemNotFound, ServerUnreachable, Unauthenticated
from service.wording import plain

D = TypeVar("D", bound=Message)

_LONGEST = 2000

DOMAIN = "koupleless.io"
"""Domain of the ErrorInfo of every refusal of a control plane; failures of the connection have none."""

_CAUSES = {
    r"connection refused": "connection refused",
    r"DNS resolution failed|name or service not known|could not contact DNS|domain name not found"
    r"|errors resolving|address lookup failed": "unknown host",
    r"no route to host": "no route to host",
    r"network is unreachable": "network unreachable",
    r"timed? ?out|timeout|handshaker shutdown": "connection timed out",
    r"socket closed|cancel|connection reset|broken pipe|recvmsg|end of tcp": "connection lost",
}
"""Words for what gRPC says in any case, the first that match."""


def failure(error: grpc.RpcError, server: str, timeout: float, hint: str = "") -> CommandError:
    """Return the failure that a call's error stands for.

    server is host:port, timeout in seconds; hint is what to do when the server does not know who we are.
    """
    code = error.code()
    details = error.details() or code.name
    if len(details) > _LONGEST:
        details = f"{details[:_LONGEST]}…"
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            unknown = f"the control plane at {server} does not know who you are: {details}"
            return Unauthenticated(*filter(None, (unknown, hint)))
        case grpc.StatusCode.PERMISSION_DENIED:
            return Forbidden(
                details,
                "mctl auth whoami shows who you are, mctl auth can-i VERB RESOURCE what you may: "
                "have somebody grant it, or use other credentials",
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if (asked := _asked_delay(error)) is not None:
            busy = f"the control plane at {server} has too much to do: {details}; it asks to wait {asked:g}s"
            return ServerUnreachable(busy, retry_after=asked)
        case grpc.StatusCode.UNAVAILABLE if _is_stated(error):
            return ServerUnreachable(f"the control plane at {server} cannot do it now: {details}")
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return ServerUnreachable(
                f"cannot reach the control plane at {server} ({_cause(details)}): "
                "is module-controller running? set MCTL_SERVER or --server"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return no_answer(server, timeout)
        case grpc.StatusCode.UNIMPLEMENTED:
            return CommandError(
                f"{server} does not offer this call ({details}): is it a module controller of this version?"
            )
        case grpc.StatusCode.NOT_FOUND:
            return ItemNotFound(details)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidFields(details, _violations(error))
        case _:
            return CommandError(details)


def retry_after(error: grpc.RpcError, pause: float) -> float:
    """Return the seconds after which a call may succeed when it is made again, infinity where it will not.

    pause is the jittered one for servers that name no time. A server that stops cancels what it was asked.
    """
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return pause
    asked = _asked_delay(error) if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED else None
    return math.inf if asked is None else asked + pause


def is_lost(error: grpc.RpcError) -> bool:
    """Return whether a call failed by its connection, and was not turned away by a control plane."""
    return error.code() == grpc.StatusCode.UNAVAILABLE and not _is_stated(error)


def is_unknown(error: grpc.RpcError) -> bool:
    """Return whether the server does not know who we are."""
    return error.code() == grpc.StatusCode.UNAUTHENTICATED


def no_answer(server: str, timeout: float) -> ServerUnreachable:
    """Return the failure that no answer within so many seconds is."""
    return ServerUnreachable(
        f"the control plane at {server} did not answer within {timeout:g}s: "
        "look at its logs, or give it longer with --request-timeout"
    )


def _is_stated(error: grpc.RpcError) -> bool:
    return any(info.domain == DOMAIN for info in _details(error, error_details_pb2.ErrorInfo))


def _asked_delay(error: grpc.RpcError) -> float | None:
    """Return the seconds for which a server asks to be left alone, at most a day; None if it names no time."""
    asked = _details(error, error_details_pb2.RetryInfo)
    seconds = max((info.retry_delay.seconds + info.retry_delay.nanos / 1e9 for info in asked), default=None)
    return None if seconds is None else min(max(seconds, 0.0), 86400.0)


def _cause(details: str) -> str:
    known = (words for pattern, words in _CAUSES.items() if re.search(pattern, details, re.IGNORECASE))
    return next(known, plain(details))


def _violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    requests = _details(error, error_details_pb2.BadRequest)
    return [(violation.field, violation.description) for request in requests for violation in request.field_violations]


def _details(error: grpc.RpcError, kind: type[D]) -> list[D]:
    """Return the details of one kind that a call's status carries."""
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
        found = [(detail, kind()) for detail in (status.details if status else ())]
        return [message for detail, message in found if detail.Unpack(message)]
    except (ValueError, DecodeError):
        # The details contradict the call's own status or are no messages: the status still holds.
        return []
