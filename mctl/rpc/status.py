"""Translation of gRPC failures to what a person can act on."""

from __future__ import annotations

import re
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mctl.errors import Failure, InvalidFields, NotFound, Refused, Unreachable

_LONGEST = 2000

_CAUSES = (
    (re.compile(r"connection refused", re.IGNORECASE), "connection refused"),
    (
        re.compile(r"DNS resolution failed|name or service not known|could not contact DNS", re.IGNORECASE),
        "unknown host",
    ),
    (re.compile(r"no route to host", re.IGNORECASE), "no route to host"),
    (re.compile(r"network is unreachable", re.IGNORECASE), "network unreachable"),
    (re.compile(r"timed? ?out|timeout", re.IGNORECASE), "connection timed out"),
    (re.compile(r"socket closed|connection reset|broken pipe|recvmsg", re.IGNORECASE), "connection lost"),
)


def failure(error: grpc.RpcError, server: str, timeout: float) -> Failure:
    """Return the failure that a call's error stands for; server is host:port, timeout in seconds."""
    code = error.code()
    details = error.details() or code.name
    if len(details) > _LONGEST:
        details = f"{details[:_LONGEST]}…"
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unreachable(
                f"cannot reach the control plane at {server} ({_cause(details)}): "
                "is module-controller running? set MCTL_SERVER or --server"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(
                f"the control plane at {server} did not answer within {timeout:g}s: "
                "look at its logs, or give it longer with --request-timeout"
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return Refused(f"{server} does not offer this call ({details}): is it a module controller of this version?")
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(details)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidFields(details, _violations(error))
        case _:
            return Refused(details)


def _cause(details: str) -> str:
    return next((words for pattern, words in _CAUSES if pattern.search(details)), details)


def _violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
        for detail in status.details if status else ():
            request = error_details_pb2.BadRequest()
            if detail.Unpack(request):
                found += [(v.field, v.description) for v in request.field_violations]
    except (ValueError, DecodeError):
        # The details contradict the call's own status or are no messages: the status still holds.
        return []
    return found
