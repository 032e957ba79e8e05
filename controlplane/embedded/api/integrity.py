"""Whether a file of the embedded cluster is whole: its pages, and the objects in them."""

from __future__ import annotations

import sqlite3

import orjson

from controlplane.embedded.api.resources import BY_PLURAL

REMEDY = (
    "stop the program, then put a copy of the file from before in its place, or move it away to begin with an "
    "empty cluster: bases and what runs on them are found again, Deployments and other objects of yours are not"
)

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY = 0xFF
"""The part of an extended result code that says what kind it is."""


def damaged(error: sqlite3.Error) -> bool:
    """Tell whether an error says that the file itself is broken."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _CORRUPT


def full(error: sqlite3.Error) -> bool:
    """Tell whether an error says that there is no room on the disk."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_FULL


def flaw(connection: sqlite3.Connection) -> str:
    """Read the whole file and say what is broken in it, nothing when it is whole. Raises sqlite3.Error."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        return " ".join(str(found).split())
    if not isinstance((connection.execute("SELECT version FROM counter").fetchone() or (None,))[0], int):
        return "it does not tell its version"
    for resource, namespace, name, uid, body in connection.execute(
        "SELECT resource, namespace, name, uid, body FROM objects"
    ):
        if not _whole(resource, namespace, name, uid, body):
            return f"the object {resource} {namespace}/{name} cannot be read"
    return ""


def _whole(resource: object, namespace: object, name: object, uid: object, body: bytes) -> bool:
    try:
        obj = orjson.loads(body)
    except (orjson.JSONDecodeError, TypeError):
        return False
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    if not isinstance(metadata, dict) or resource not in BY_PLURAL:
        return False
    told = (metadata.get("namespace", ""), metadata.get("name"), metadata.get("uid"))
    return told == (namespace, name, uid) and str(metadata.get("resourceVersion", "")).isdecimal()
