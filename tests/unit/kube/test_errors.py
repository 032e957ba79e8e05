"""Replies and failures of the API server become errors of the port."""

import ssl

import aiohttp
import orjson
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.ports import AlreadyExists, ClusterError, Conflict, NotFound, Rejected, Transient, Unknown
from controlplane.cluster.api import Expired, Json
from controlplane.kube import client
from controlplane.kube.errors import Unauthorized, error_of_reply
from controlplane.kube.transport import failure


def _status(reason: str = "", message: str = "words", **more: object) -> bytes:
    return orjson.dumps({"kind": "Status", "reason": reason, "message": message, **more})


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (301, b"", Rejected),
        (400, _status("BadRequest"), Rejected),
        (401, _status("Unauthorized"), Unauthorized),
        (403, _status("Forbidden"), Rejected),
        (404, _status("NotFound"), NotFound),
        (408, b"", Transient),
        (409, _status("AlreadyExists"), AlreadyExists),
        (409, _status("Conflict"), Conflict),
        (409, b"<html>", Conflict),
        (410, _status("Expired"), Expired),
        (422, _status("Invalid"), Rejected),
        (422, _status("Invalid", details={"causes": [{"field": "metadata.uid"}]}), Conflict),
        (429, _status("TooManyRequests"), Transient),
        (500, _status("InternalError"), Transient),
        (500, _status("InternalError", "etcdserver: request timed out"), Unknown),
        (500, _status("ServerTimeout"), Unknown),
        (503, _status("ServiceUnavailable"), Transient),
        (504, _status("Timeout"), Unknown),
    ],
)
def test_each_status_of_a_write_has_its_error(status: int, body: bytes, expected: type[ClusterError]) -> None:
    assert type(error_of_reply(status, body, write=True)) is expected


@pytest.mark.parametrize("status", [500, 504])
def test_a_read_that_timed_out_in_the_server_can_simply_be_repeated(status: int) -> None:
    assert type(error_of_reply(status, _status("Timeout"), write=False)) is Transient


def test_the_message_is_the_servers() -> None:
    body = _status("Forbidden", 'nodes is forbidden: User "x" cannot list')
    assert str(error_of_reply(403, body, write=False)) == 'nodes is forbidden: User "x" cannot list (HTTP 403)'
    assert str(error_of_reply(502, b"Bad Gateway\n", write=False)) == "Bad Gateway (HTTP 502)"


def test_a_long_message_is_cut() -> None:
    assert len(str(error_of_reply(500, b"x" * 100_000, write=False))) < 1100


@pytest.mark.parametrize(
    ("header", "details", "expected"),
    [
        ("3", {}, 3.0),
        ("", {"retryAfterSeconds": 2}, 2.0),
        ("", {}, None),
        ("9999999999999999999999", {}, 60.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {}, None),
        ("-1", {}, None),
        ("0", {}, None),
        ("\u00b2", {}, None),
    ],
)
def test_retry_after_is_read_and_bounded(header: str, details: dict[str, int], expected: float | None) -> None:
    error = error_of_reply(429, _status("TooManyRequests", details=details), retry_after=header, write=True)
    assert isinstance(error, Transient)
    assert error.retry_after == expected


@given(st.integers(300, 599), st.binary(max_size=200), st.text(max_size=8), st.booleans())
def test_any_reply_is_an_error_of_the_port(status: int, body: bytes, header: str, write: bool) -> None:
    assert isinstance(error_of_reply(status, body, retry_after=header, write=write), ClusterError)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"code": 410, "reason": "Expired", "message": "too old"}, Expired),
        ({"code": None}, Transient),
        ({"code": 500, "reason": "InternalError"}, Transient),
    ],
)
def test_error_events_of_a_watch_have_their_errors(status: Json, expected: type[ClusterError]) -> None:
    with pytest.raises(expected):
        client._event(orjson.dumps({"type": "ERROR", "object": status}))


def test_a_connection_that_fails_is_described_without_objects() -> None:
    key = ConnectionKey("10.0.0.1", 6443, True, ssl.create_default_context(), None, None, None)
    refused = aiohttp.ClientConnectorError(key, OSError(111, "Connection refused"))
    assert failure(refused, 5.0) == "cannot connect to 10.0.0.1:6443: Connection refused"
    unknown = aiohttp.ClientConnectorDNSError(key, OSError(-2, "Name or service not known"))
    assert failure(unknown, 5.0) == "cannot connect to 10.0.0.1:6443: Name or service not known"
    assert failure(TimeoutError(), 5.0) == "no reply within 5 s"
