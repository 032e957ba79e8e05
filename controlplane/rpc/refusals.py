"""Refusals as gRPC statuses with google.rpc details."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from controlplane.access.refusals import CannotReview, Forbidden, TooManyReviews, Unauthenticated
from controlplane.app import ports
from controlplane.app.tooling.refusals import Missing, NotAllowed, RequestError
from controlplane.domain.workloads.placement import InvalidSelector
from service.masking import masked

DOMAIN = "koupleless.io"
LONGEST = 2000
"""Characters of a message, or of what is said about a field: a status travels in headers, which clients bound."""

AGAIN_AFTER = Duration(seconds=1)
"""When a caller may ask again for what there was too much of."""

Context = aio.ServicerContext[Any, Any]


class Ending(Exception):
    """This replica ends, so that a call is not answered; known is what else its caller must know."""

    def __init__(self, known: str = "") -> None:
        more = f"{known}; " if known else ""
        again = "send it again, to this address or to another replica"
        super().__init__(f"this replica of the control plane ends: {more}{again}")


class Busy(Exception):
    """More is asked for at once than is taken."""


class TooSlow(Exception):
    """Events came faster than they were read."""


class TooMuch(Exception):
    """A caller, or all, have too much under way; the message says of what."""


class NotEmbedded(Exception):
    """The call is for the embedded cluster, and this control plane works on another."""


_STATUSES: Mapping[type[Exception], tuple[grpc.StatusCode, str]] = {
    Missing: (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    NotAllowed: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ALLOWED"),
    RequestError: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    InvalidSelector: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SELECTOR"),
    Ending: (grpc.StatusCode.UNAVAILABLE, "ENDING"),
    Busy: (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY"),
    TooSlow: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_SLOW"),
    TooMuch: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MUCH"),
    TooManyReviews: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_REVIEWS"),
    CannotReview: (grpc.StatusCode.UNAVAILABLE, "CANNOT_REVIEW"),
    Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    Forbidden: (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN"),
    NotEmbedded: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_EMBEDDED"),
    ports.NotFound: (grpc.StatusCode.NOT_FOUND, ""),
    ports.AlreadyExists: (grpc.StatusCode.ALREADY_EXISTS, ""),
    ports.Conflict: (grpc.StatusCode.ABORTED, ""),
    ports.Rejected: (grpc.StatusCode.INVALID_ARGUMENT, ""),
    ports.StorageFull: (grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
    ports.StorageDamaged: (grpc.StatusCode.DATA_LOSS, ""),
    ports.Transient: (grpc.StatusCode.UNAVAILABLE, ""),
    ports.ClusterError: (grpc.StatusCode.UNKNOWN, ""),
}
"""Code and reason of each; without a reason it is CLUSTER_ and the name of the error. The closest class counts."""


@asynccontextmanager
async def refusing(context: Context) -> AsyncIterator[None]:
    """Turn refusals and cluster errors within into the status of the call, which programs can read too."""
    try:
        yield
    except tuple(_STATUSES) as error:
        code, reason = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
        reason = reason or f"CLUSTER_{type(error).__name__.upper()}"
        details = [_packed(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))]
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            details.append(_packed(error_details_pb2.RetryInfo(retry_delay=AGAIN_AFTER)))
        if violations := _violations(error):
            wrong = [
                error_details_pb2.BadRequest.FieldViolation(field=field[:LONGEST], description=masked(text)[:LONGEST])
                for field, text in violations
            ]
            details.append(_packed(error_details_pb2.BadRequest(field_violations=wrong)))
        number = code_pb2.Code.Value(code.name)
        status = status_pb2.Status(code=number, message=masked(str(error))[:LONGEST], details=details)
        await context.abort_with_status(rpc_status.to_status(status))


def _violations(error: Exception) -> tuple[tuple[str, str], ...]:
    """Return the fields of the request, or of an object, at fault."""
    if isinstance(error, ports.Rejected):
        return error.fields
    if isinstance(error, InvalidSelector):
        return (("selector", str(error)),)
    if isinstance(error, RequestError) and error.field and not isinstance(error, Missing | NotAllowed):
        return ((error.field, str(error)),)
    return ()


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
