"""The matrix: through which door, with which credential, how it ends, and as what the port counts the refusal."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from controlplane.rpc.access.rules import RULES, Who
from tests.security.matrix.doors import CALLS, NOT_CONNECTED, OK, PROGRAMS, READ

UNKNOWN, DENIED = "UNAUTHENTICATED", "PERMISSION_DENIED"


class Row(NamedTuple):
    """outcome as doors.py has it; reason is empty where nothing is refused, or TLS ends before there is a call."""

    door: str
    credential: str
    outcome: str
    reason: str = ""


Ends = tuple[str, str]
"""Outcome, and reason of the refusal."""

SERVED: Ends = (OK, "")
NOBODY: Mapping[str, Ends] = {
    "none": (UNKNOWN, "anonymous"),
    "bad": (UNKNOWN, "token"),
    "long": (UNKNOWN, "token"),
    "forged": (UNKNOWN, "token"),
    "expired": (UNKNOWN, "token"),
    "revoked": (UNKNOWN, "token"),
    "other audience": (UNKNOWN, "token"),
}
"""Who is not known, whatever is called. Keys of a mapping of ends are credentials."""
NOT_ALLOWED: Ends = (DENIED, "not_allowed")
NOT_THEIRS: Ends = (DENIED, "not_in_circle")
NO_HANDSHAKE: Ends = (NOT_CONNECTED, "")

_TLS_ENDS: Mapping[str, Ends] = {"none": NO_HANDSHAKE, "foreign": NO_HANDSHAKE, "expired": NO_HANDSHAKE}
_LOCAL: Mapping[str, Ends] = {"none": (UNKNOWN, "anonymous"), "bad": (UNKNOWN, "token"), "operator": (UNKNOWN, "token")}

_BOUND: Mapping[str, Ends] = {
    "none": ("401", "token"),
    "bad": ("401", "token"),
    "key that is gone": ("401", "token"),
    "of another base, renamed": ("401", "token"),
    "of another base": ("403", "other_base"),
    "operator": ("401", "token"),
    "of this base": ("200", ""),
    "of this base, by the older key": ("200", ""),
    "shared": ("200", ""),
}

_MATRIX: Mapping[str, Mapping[str, Ends]] = {
    # A method of the health service that we do not serve, which only those learn who are known.
    "List": {"stranger": ("UNIMPLEMENTED", "")},
    "ListVNodes": {
        **NOBODY,
        "signed anew": SERVED,
        "stranger": NOT_ALLOWED,
        "viewer": SERVED,
        "operator": SERVED,
        # A token for our audience may be shown to us alone, so that tools may show it, too.
        "stranger, our audience": NOT_ALLOWED,
        "gateway": NOT_ALLOWED,
    },
    "InstallModule": {
        **NOBODY,
        "stranger": NOT_ALLOWED,
        "viewer": NOT_ALLOWED,
        "operator": ("NOT_FOUND", ""),
    },
    "DrainReplica": {
        **NOBODY,
        "stranger": NOT_ALLOWED,
        "viewer": NOT_ALLOWED,
        "operator": ("NOT_FOUND", ""),
    },
    "Connect": {
        **NOBODY,
        "gateway, API server's audience": (UNKNOWN, "token"),
        "operator": (UNKNOWN, "token"),
        "stranger, our audience": NOT_THEIRS,
        "replica": NOT_THEIRS,
        # A Pod's token is for the gateway of that name.
        "gateway of a Pod": (DENIED, "gateway_id"),
        "gateway": SERVED,
    },
    "Follow": {
        **NOBODY,
        "operator": (UNKNOWN, "token"),
        "stranger, our audience": NOT_THEIRS,
        "gateway": NOT_THEIRS,
        "replica": SERVED,
    },
    "ListVNodes in plaintext": {"none": NO_HANDSHAKE, "operator": NO_HANDSHAKE},
    "ListVNodes with a certificate": {
        **_TLS_ENDS,
        "token": NO_HANDSHAKE,
        "nobody's": (UNKNOWN, "certificate"),
        "stranger": NOT_ALLOWED,
        "viewer": SERVED,
    },
    "Connect with a certificate": {**_TLS_ENDS, "viewer": NOT_THEIRS, "gateway": SERVED},
    "mctl get vnodes": {
        "none": ("7", "anonymous"),
        "expired": ("7", "token"),
        "stranger": ("8", "not_allowed"),
        "viewer": ("0", ""),
    },
    "ListVNodes on one machine": {
        **_LOCAL,
        "local viewer": SERVED,
        "local operator": SERVED,
        "local admin": SERVED,
        "local gateway": NOT_THEIRS,
        "local replica": NOT_THEIRS,
    },
    "InstallModule on one machine": {
        **_LOCAL,
        "local viewer": NOT_ALLOWED,
        "local operator": ("NOT_FOUND", ""),
        "local admin": ("NOT_FOUND", ""),
        "local gateway": NOT_THEIRS,
        "local replica": NOT_THEIRS,
    },
    "DrainReplica on one machine": {
        "none": (UNKNOWN, "anonymous"),
        "local viewer": NOT_ALLOWED,
        "local operator": ("NOT_FOUND", ""),
    },
    # Of an object that is of no kind: operators change some kinds only.
    "ApplyManifest on one machine": {
        "local viewer": NOT_ALLOWED,
        "local operator": NOT_ALLOWED,
        "local admin": ("INVALID_ARGUMENT", ""),
    },
    "Connect on one machine": {
        **_LOCAL,
        "local viewer": NOT_THEIRS,
        "local admin": NOT_THEIRS,
        "local gateway": SERVED,
        "local replica": NOT_THEIRS,
    },
    "Follow on one machine": {
        **_LOCAL,
        "local admin": NOT_THEIRS,
        "local gateway": NOT_THEIRS,
        "local replica": SERVED,
    },
    "heartbeat, token in the path": _BOUND,
    "heartbeat, token in the header": _BOUND,
    # Open by its settings: no token is set. Doctor warns of it.
    "heartbeat on one machine": {"none": ("200", "")},
    "/log": {
        "none": ("401", "token"),
        "bad": ("401", "token"),
        "operator": ("401", "token"),
        "report token": ("200", ""),
    },
    # Without REPORT_TOKEN: this machine alone reaches it.
    "/log on one machine": {"none": ("200", "")},
    "log of a module": {
        "none": ("401", "anonymous"),
        "bad": ("401", "token"),
        "forged": ("401", "token"),
        "expired": ("401", "token"),
        "revoked": ("401", "token"),
        "other audience": ("401", "token"),
        "gateway": ("401", "token"),
        "stranger": ("403", "not_allowed"),
        "viewer": ("403", "not_allowed"),
        "log reader": ("404", "no_module"),
    },
    "log of a module with a certificate": {
        "none": ("401", "anonymous"),
        "foreign": (NOT_CONNECTED, "foreign_certificate"),
        "expired": (NOT_CONNECTED, "foreign_certificate"),
        "nobody's": ("401", "certificate"),
        "stranger": ("403", "not_allowed"),
        "API server": ("404", "no_module"),
    },
}


_OF_STRANGERS: Mapping[Who, Ends] = {
    Who.TOOL: NOT_ALLOWED,
    # Of gateways and replicas a token for our audience is needed, which a stranger's is not.
    Who.GATEWAY: (UNKNOWN, "token"),
    Who.REPLICA: (UNKNOWN, "token"),
    # Whoever is known.
    Who.ANYONE: SERVED,
}


def _every_call() -> Iterator[tuple[str, Mapping[str, Ends]]]:
    """Yield for each call there is who is refused, whatever else it needs."""
    for name, call in CALLS.items():
        yield name, {"none": (UNKNOWN, "anonymous"), "stranger": _OF_STRANGERS[RULES[call.method].who]}


def rows() -> Iterator[Row]:
    """Yield all rows; health and metrics are open by design, to be read and for nothing else."""
    matrix = {**_MATRIX, **{door: {**ends, **_MATRIX.get(door, {})} for door, ends in _every_call()}}
    for door, ends in matrix.items():
        for credential, (outcome, reason) in ends.items():
            yield Row(door, credential, outcome, reason)
    for program in PROGRAMS:
        for paths in READ.values():
            yield Row(f"GET {paths[0]} of {program}", "none", "200")
            for method in ("POST", "DELETE"):
                yield Row(f"{method} {paths[0]} of {program}", "none", "405", "method")
