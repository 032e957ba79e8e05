"""Refusals as gRPC statuses with google.rpc details."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from controlplane.app.ports import (
    AlreadyExists,
    ClusterError,
    Conflict,
    NotFound,
    Rejected,
    StorageDamaged,
    StorageFull,
    Transient,
)
from controlplane.app.tooling.refusals import Missing, NotAllowed, RequestError
from controlplane.domain.workloads.placement import InvalidSelector

DOMAIN = "koupleless.io"


class Ending(Exception):
    """This replica ends, so that a call is not answered; the message says what else its caller must know."""


class Busy(Exception):
    """More is asked for at once than is taken."""


@asynccontextmanager
async def refusing(context: aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Turn refusals and cluster errors within into the status of the call."""
    try:
        yield
    except Missing as error:
        await refuse(context, grpc.StatusCode.NOT_FOUND, str(error), reason="NOT_FOUND")
    except NotAllowed as error:
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error), reason="NOT_ALLOWED")
    except RequestError as error:
        violations = ((error.field, str(error)),) if error.field else ()
        await refuse(
            context, grpc.StatusCode.INVALID_ARGUMENT, str(error), reason="INVALID_REQUEST", violations=violations
        )
    except InvalidSelector as error:
        await refuse(
            context,
            grpc.StatusCode.INVALID_ARGUMENT,
            str(error),
            reason="INVALID_SELECTOR",
            violations=(("selector", str(error)),),
        )
    except Ending as error:
        known = f"{error}; " if str(error) else ""
        message = f"this replica of the control plane ends: {known}send it again, to this address or to another replica"
        await refuse(context, grpc.StatusCode.UNAVAILABLE, message, reason="ENDING")
    except Busy as error:
        await refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), reason="BUSY")
    except ClusterError as error:
        fields = error.fields if isinstance(error, Rejected) else ()
        await refuse(
            context, _status(error), str(error), reason=f"CLUSTER_{type(error).__name__.upper()}", violations=fields
        )


def _status(error: ClusterError) -> grpc.StatusCode:
    for kind, status in (
        (NotFound, grpc.StatusCode.NOT_FOUND),
        (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
        (Conflict, grpc.StatusCode.ABORTED),
        (Rejected, grpc.StatusCode.INVALID_ARGUMENT),
        (StorageFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (StorageDamaged, grpc.StatusCode.DATA_LOSS),
        (Transient, grpc.StatusCode.UNAVAILABLE),
    ):
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.UNKNOWN


async def refuse(
    context: aio.ServicerContext[Any, Any],
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str,
    violations: tuple[tuple[str, str], ...] = (),
) -> NoReturn:
    """End the call with a status that programs can read too."""
    details: list[AnyMessage] = []
    info = AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    details.append(info)
    if violations:
        bad = AnyMessage()
        bad.Pack(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
                    for field, text in violations
                ]
            )
        )
        details.append(bad)
    number = code_pb2.Code.Value(code.name)
    status = rpc_status.to_status(status_pb2.Status(code=number, message=message, details=details))
    await context.abort_with_status(status)
    raise AssertionError("abort raises")
