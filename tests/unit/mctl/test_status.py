"""Failed calls name their cause and the fix."""

from typing import Any

import grpc
import pytest

from mctl.errors import ServerUnreachable
from mctl.rpc.status import failure


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
