"""Failures become the status of a call: its code says what a client may do, its details the cause."""

from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from controlplane.app.ports import (
    AlreadyExists,
    Conflict,
    NotFound,
    Rejected,
    StorageDamaged,
    StorageFull,
    Transient,
    Unknown,
)
from controlplane.app.tooling.refusals import Missing, NotAllowed, RequestError
from controlplane.rpc.refusals import DOMAIN, LONGEST, Busy, Ending, refusing


class Ended(Exception):
    """The call ended with a status."""


class Context:
    """Takes the status of a call."""

    def __init__(self) -> None:
        self.status: Any = None

    async def abort_with_status(self, status: Any) -> None:
        self.status = status
        raise Ended

    def info(self) -> error_details_pb2.ErrorInfo:
        (packed,) = [value for key, value in self.status.trailing_metadata if key == "grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
        return info


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Missing("none"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        (NotAllowed("no"), grpc.StatusCode.FAILED_PRECONDITION, "NOT_ALLOWED"),
        (RequestError("wrong", "url"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (Ending(), grpc.StatusCode.UNAVAILABLE, "ENDING"),
        (Busy("busy"), grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY"),
        (NotFound("n"), grpc.StatusCode.NOT_FOUND, "CLUSTER_NOTFOUND"),
        (AlreadyExists("a"), grpc.StatusCode.ALREADY_EXISTS, "CLUSTER_ALREADYEXISTS"),
        (Conflict("c"), grpc.StatusCode.ABORTED, "CLUSTER_CONFLICT"),
        (Rejected("r"), grpc.StatusCode.INVALID_ARGUMENT, "CLUSTER_REJECTED"),
        (StorageFull("f"), grpc.StatusCode.RESOURCE_EXHAUSTED, "CLUSTER_STORAGEFULL"),
        (StorageDamaged("d"), grpc.StatusCode.DATA_LOSS, "CLUSTER_STORAGEDAMAGED"),
        (Transient("t"), grpc.StatusCode.UNAVAILABLE, "CLUSTER_TRANSIENT"),
        (Unknown("u"), grpc.StatusCode.UNKNOWN, "CLUSTER_UNKNOWN"),
    ],
)
async def test_each_failure_has_its_code_and_its_reason(error: Exception, code: grpc.StatusCode, reason: str) -> None:
    context = Context()
    with pytest.raises(Ended):
        async with refusing(cast("aio.ServicerContext[Any, Any]", context)):
            raise error
    assert (context.status.code, context.info().reason, context.info().domain) == (code, reason, DOMAIN)
    assert str(error) in context.status.details


async def test_a_status_has_no_secrets() -> None:
    context, url = Context(), "https://u:pass-word@repo.example/biz1.jar?Signature=5ecret"
    with pytest.raises(Ended):
        async with refusing(cast("aio.ServicerContext[Any, Any]", context)):
            raise RequestError(f"{url!r} is installed from another URL", "url")
    status = str(context.status)
    assert "repo.example/biz1.jar" in status
    assert not any(secret in status for secret in ("pass-word", "5ecret"))


async def test_what_a_caller_sent_does_not_come_back_without_end() -> None:
    context = Context()
    with pytest.raises(Ended):
        async with refusing(cast("aio.ServicerContext[Any, Any]", context)):
            raise RequestError("x" * 100_000, "y" * 100_000)
    assert len(context.status.details) == LONGEST
    assert sum(len(value) for _, value in context.status.trailing_metadata) < 4 * LONGEST
