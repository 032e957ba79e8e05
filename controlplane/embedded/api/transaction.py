"""Reads and writes of objects inside one SQLite transaction."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from controlplane.app.ports import Rejected, StorageDamaged
from controlplane.cluster.api import Json, Resource
from controlplane.embedded.api.resources import Image, ObjectKey, image, object_key

SCHEMA_VERSION = 2
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS counter (version INTEGER NOT NULL)",
    "INSERT INTO counter SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM counter)",
    """CREATE TABLE IF NOT EXISTS objects (
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        uid TEXT NOT NULL, modified REAL NOT NULL, body BLOB NOT NULL,
        UNIQUE (resource, namespace, name))""",
    "CREATE UNIQUE INDEX IF NOT EXISTS object_uids ON objects (uid)",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)
REMEDY = (
    "stop the program, then put a copy of the file from before in its place, or move it away to begin with an "
    "empty cluster: bases and what runs on them are found again, Deployments and other objects of yours are not"
)
MAX_OBJECT_BYTES = 1_500_000
"""Largest object, as etcd's default limit."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change as committed. raw is the object after it, or its last state; an object without after was deleted."""

    key: ObjectKey
    version: int
    raw: bytes
    before: Image | None
    after: Image | None

    def obj(self) -> Json | None:
        """Return the object after it, None if it was deleted."""
        return orjson.loads(self.raw) if self.after is not None else None


def encode(obj: Json) -> bytes:
    """Serialise an object; raises Rejected for what is not JSON or too large."""
    try:
        raw = orjson.dumps(obj)
    except (TypeError, RecursionError) as error:
        raise Rejected(f"the object is no valid JSON: {error}") from error
    if len(raw) > MAX_OBJECT_BYTES:
        raise Rejected(f"Request entity too large: limit is {MAX_OBJECT_BYTES} bytes, the object has {len(raw)}")
    return raw


class Transaction:
    """One transaction's view of the objects; gives out versions and collects changes."""

    def __init__(self, connection: sqlite3.Connection, version: int) -> None:
        self._execute = connection.execute
        self.version = version
        self.changes: list[Change] = []

    def get(self, key: ObjectKey) -> Json | None:
        """Return an object, or None."""
        row = self._execute(
            "SELECT body FROM objects WHERE resource=? AND namespace=? AND name=?",
            (key.resource.plural, key.namespace, key.name),
        ).fetchone()
        return None if row is None else _decode(row[0])

    def all(self, resource: Resource) -> Iterator[Json]:
        """Iterate over the objects of a resource by namespace and name."""
        query = "SELECT body FROM objects WHERE resource=? ORDER BY namespace, name"
        return (_decode(body) for (body,) in self._execute(query, (resource.plural,)))

    def insert(self, key: ObjectKey, obj: Json) -> Json:
        """Store a new object and return it with its version; the name must be free."""
        raw = self._stamp(obj)
        place = (key.resource.plural, key.namespace, key.name)
        uid = obj["metadata"]["uid"]
        self._execute("INSERT INTO objects VALUES (?,?,?,?,?,?)", (*place, uid, time.time(), raw))
        self.changes.append(Change(key, self.version, raw, None, image(obj)))
        return obj

    def replace(self, key: ObjectKey, before: Json, after: Json) -> Json:
        """Store the new state of an object and return it with its version; the same state is not written."""
        if before == after:
            return before
        after = {**after, "metadata": dict(after["metadata"])}
        raw = self._stamp(after)
        self._execute("UPDATE objects SET body=?, modified=? WHERE uid=?", (raw, time.time(), after["metadata"]["uid"]))
        self.changes.append(Change(key, self.version, raw, image(before), image(after)))
        return after

    def remove(self, key: ObjectKey, obj: Json) -> None:
        """Remove an object."""
        obj = {**obj, "metadata": dict(obj["metadata"])}
        raw = self._stamp(obj)
        self._execute("DELETE FROM objects WHERE uid=?", (obj["metadata"]["uid"],))
        self.changes.append(Change(key, self.version, raw, image(obj), None))

    def stalest(self, resource: Resource, keep: int, modified_before: float) -> list[ObjectKey]:
        """Return the objects beyond the newest keep, and those not written since a time (seconds since the epoch)."""
        rows = self._execute(
            "SELECT name, namespace, modified FROM objects WHERE resource=? ORDER BY modified DESC",
            (resource.plural,),
        )
        return [
            object_key(resource, name, namespace)
            for place, (name, namespace, modified) in enumerate(rows)
            if place >= keep or modified < modified_before
        ]

    def save_version(self) -> None:
        """Write the version counter if it moved; to be called before the commit."""
        if self.changes:
            self._execute("UPDATE counter SET version=?", (self.version,))

    def _stamp(self, obj: Json) -> bytes:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        return encode(obj)


def _decode(body: bytes) -> Json:
    try:
        obj: Json = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise StorageDamaged(f"an object in EMBEDDED_DB cannot be read ({error}): {REMEDY}") from error
    return obj
