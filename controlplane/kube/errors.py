"""From replies of the Kubernetes API to the errors of the port."""

from __future__ import annotations

import orjson

from controlplane.app.ports import AlreadyExists, ClusterError, Conflict, NotFound, Rejected, Transient, Unknown
from controlplane.cluster import fields
from controlplane.cluster.api import Expired, Json

MESSAGE_LIMIT = 1000
LONGEST_RETRY_AFTER = 60.0
_TIMEOUT_REASONS = ("Timeout", "ServerTimeout")


def refusal(status: int, body: bytes, *, retry_after: str = "", write: bool) -> ClusterError:
    """Return the error that a reply of status 300 or more means."""
    return _error(status, _status_object(body), body, retry_after, write=write)


def watch_error(told: Json) -> ClusterError:
    """Return the error that an ERROR event of a watch holds as a Status object."""
    return _error(fields.integer(told, "code") or 500, told, b"", "", write=False)


def _error(status: int, told: Json, body: bytes, retry_after: str, *, write: bool) -> ClusterError:
    reason = fields.text(told, "reason")
    words = fields.text(told, "message") or body[:MESSAGE_LIMIT].decode(errors="replace").strip() or reason
    message = f"{words[:MESSAGE_LIMIT]} (HTTP {status})"
    match status:
        case 404:
            return NotFound(message)
        case 409 if reason == "AlreadyExists":
            return AlreadyExists(message)
        case 409:
            return Conflict(message)
        case 422 if _immutable_uid(told):
            # How the API server answers a patch whose metadata.uid is another object's.
            return Conflict(message)
        case 410:
            return Expired(message)
        case 408 | 429:
            return Transient(message, _retry_after(retry_after, told))
        case _ if status >= 500:
            # etcd may have done what the API server gave up waiting for.
            if write and (status == 504 or reason in _TIMEOUT_REASONS or "request timed out" in words):
                return Unknown(message)
            return Transient(message, _retry_after(retry_after, told))
        case _:
            return Rejected(message)


def _immutable_uid(told: Json) -> bool:
    causes = fields.objects(fields.mapping(told, "details"), "causes")
    return any(fields.text(cause, "field") == "metadata.uid" for cause in causes)


def _retry_after(header: str, told: Json) -> float | None:
    if header.isascii() and header.isdigit():
        seconds = int(header[:9])
    else:
        seconds = fields.integer(fields.mapping(told, "details"), "retryAfterSeconds") or 0
    return min(float(seconds), LONGEST_RETRY_AFTER) if seconds > 0 else None


def _status_object(body: bytes) -> Json:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}
