"""From replies of the Kubernetes API to the errors of the port."""

from controlplane.app.ports import AlreadyExists, ClusterError, Conflict, NotFound, Rejected, Transient, Unknown
from controlplane.cluster import fields
from controlplane.cluster.api import Expired, Json

MESSAGE_LIMIT = 1000
LONGEST_RETRY_AFTER = 60.0
_TIMEOUT_REASONS = ("Timeout", "ServerTimeout")


class Unauthorized(Rejected):
    """The server does not accept the credentials (401)."""


def error_of_reply(code: int, body: bytes, *, retry_after: str = "", write: bool) -> ClusterError:
    """Return the error that a reply of status 300 or more means; retry_after is the header of that name."""
    words = body[:MESSAGE_LIMIT].decode(errors="replace").strip()
    return error_of_status(code, fields.parsed(body) or {}, words, retry_after=retry_after, write=write)


def error_of_status(code: int, status: Json, words: str = "", *, retry_after: str = "", write: bool) -> ClusterError:
    """Return the error that a Status object means; words are for one without a message."""
    reason = fields.text(status, "reason")
    words = fields.text(status, "message") or words or reason
    message = f"{words[:MESSAGE_LIMIT]} (HTTP {code})"
    match code:
        case 401:
            return Unauthorized(message)
        case 404:
            return NotFound(message)
        case 409 if reason == "AlreadyExists":
            return AlreadyExists(message)
        case 409:
            return Conflict(message)
        case 422 if _immutable_uid(status):
            # How the API server answers a patch whose metadata.uid is another object's.
            return Conflict(message)
        case 410:
            return Expired(message)
        case _ if code >= 500 or code in (408, 429):
            # etcd may have done what the API server gave up waiting for.
            given_up = code == 504 or reason in _TIMEOUT_REASONS or "request timed out" in words
            if write and code >= 500 and given_up:
                return Unknown(message)
            return Transient(message, _retry_after(retry_after, status))
        case _:
            return Rejected(message)


def _immutable_uid(status: Json) -> bool:
    causes = fields.objects(fields.mapping(status, "details"), "causes")
    return any(fields.text(cause, "field") == "metadata.uid" for cause in causes)


def _retry_after(header: str, status: Json) -> float | None:
    if header.isascii() and header.isdigit():
        seconds = int(header[:9])
    else:
        seconds = fields.integer(fields.mapping(status, "details"), "retryAfterSeconds") or 0
    return min(float(seconds), LONGEST_RETRY_AFTER) if seconds > 0 else None
