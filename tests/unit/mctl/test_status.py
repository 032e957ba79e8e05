"""Failed calls name their cause and the fix."""

import math
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mctl.errors import ExitCode, ServerUnreachable
from mctl.rpc.status import failure, retry_after


class Lost(grpc.RpcError):
    """The error of the library for a connection that could not be made."""

    def __init__(self, details: str) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        (
            "errors resolving h:1: [field:hostname lookup error:address lookup failed for h:1: Domain name not found]",
            "unknown host",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:1: tcp handshaker shutdown",
            "connection timed out",
        ),
        ("something [field:any thing error:that nobody knows]", "something that nobody knows"),
        ("Socket closed", "connection lost"),
    ],
)
def test_a_lost_connection_names_its_cause(details: str, cause: str) -> None:
    failed = failure(Lost(details), "h:1", 10.0)
    assert isinstance(failed, ServerUnreachable)
    assert failed.lines == (
        f"cannot reach the control plane at h:1 ({cause}): is module-controller running? set MCTL_SERVER or --server",
    )


class Busy(Lost):
    """A refusal with a time after which to ask again, as grpc-status carries it."""

    def __init__(self, code: grpc.StatusCode, seconds: int | None) -> None:
        super().__init__("too many calls")
        self._code, self._seconds = code, seconds

    def code(self) -> grpc.StatusCode:
        return self._code

    def trailing_metadata(self) -> tuple[Any, ...]:
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": self._seconds or 0}))
        details = [packed] if self._seconds is not None else []
        status = status_pb2.Status(code=self._code.value[0], message=self._details, details=details)
        return rpc_status.to_status(status).trailing_metadata


@pytest.mark.parametrize(
    ("code", "seconds", "after"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 3, 3.5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, -3, 0.5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 10**11, 86400.5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, math.inf),
        (grpc.StatusCode.PERMISSION_DENIED, 3, math.inf),
        (grpc.StatusCode.UNAVAILABLE, None, 0.5),
    ],
)
def test_what_is_asked_again_and_when(code: grpc.StatusCode, seconds: int | None, after: float) -> None:
    assert retry_after(Busy(code, seconds), 0.5) == after


def test_a_server_with_too_much_to_do_cannot_do_it_now() -> None:
    failed = failure(Busy(grpc.StatusCode.RESOURCE_EXHAUSTED, 3), "h:1", 10.0)
    assert isinstance(failed, ServerUnreachable)
    assert failed.retry_after == 3.0
    plain = failure(Busy(grpc.StatusCode.RESOURCE_EXHAUSTED, None), "h:1", 10.0)
    assert plain.exit_code is ExitCode.REFUSED
