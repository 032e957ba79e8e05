"""Reads and writes of objects inside one SQLite transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.app.ports import StorageDamaged
from controlplane.cluster.api import Json, Resource
from controlplane.embedded.api.integrity import REMEDY
from controlplane.embedded.api.journal import Change, Image
from controlplane.embedded.api.objects import encode, metadata_of
from controlplane.embedded.api.resources import BY_PLURAL, field_value, selectable_fields

SCHEMA_VERSION = 1
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS counter (version INTEGER NOT NULL)",
    "INSERT INTO counter SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM counter)",
    """CREATE TABLE IF NOT EXISTS objects (
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        uid TEXT NOT NULL, modified REAL NOT NULL, body BLOB NOT NULL,
        UNIQUE (resource, namespace, name))""",
    "CREATE UNIQUE INDEX IF NOT EXISTS object_uids ON objects (uid)",
    """CREATE TABLE IF NOT EXISTS owners (
        dependent TEXT NOT NULL, owner TEXT NOT NULL,
        PRIMARY KEY (dependent, owner)) WITHOUT ROWID""",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)


@dataclass(frozen=True, slots=True)
class Ref:
    """Where an object is, and which one it is."""

    resource: Resource
    namespace: str
    name: str
    uid: str


def image(resource: Resource, obj: Json) -> Image:
    """Return what selectors look at."""
    return Image(
        dict(metadata_of(obj).get("labels") or {}),
        {path: field_value(obj, path) for path in selectable_fields(resource)},
    )


class Transaction:
    """One transaction's view of the objects; gives out versions and collects changes."""

    def __init__(self, connection: sqlite3.Connection, version: int) -> None:
        self._execute = connection.execute
        self._saved = version
        self.version = version
        self._changes: list[Change] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """Return an object, or None."""
        row = self._execute(
            "SELECT body FROM objects WHERE resource=? AND namespace=? AND name=?",
            (resource.plural, namespace if resource.namespaced else "", name),
        ).fetchone()
        return None if row is None else _decode(row[0])

    def all(self, resource: Resource, namespace: str = "") -> Iterator[Json]:
        """Iterate over the objects of a resource by namespace and name; an empty namespace means all."""
        where, values = "resource=?", [resource.plural]
        if namespace and resource.namespaced:
            where, values = "resource=? AND namespace=?", [resource.plural, namespace]
        query = f"SELECT body FROM objects WHERE {where} ORDER BY namespace, name"  # noqa: S608 - constants only
        for (body,) in self._execute(query, values):
            yield _decode(body)

    def insert(self, resource: Resource, obj: Json) -> Json:
        """Store a new object and return it with its version; the name must be free."""
        metadata = metadata_of(obj)
        raw = self._stamp(obj)
        place = (resource.plural, metadata.get("namespace", ""), metadata["name"])
        self._execute("INSERT INTO objects VALUES (?,?,?,?,?,?)", (*place, metadata["uid"], time.time(), raw))
        self._own(obj)
        self._note("ADDED", resource, obj, raw, None, image(resource, obj))
        return obj

    def replace(self, resource: Resource, before: Json, after: Json) -> Json:
        """Store the new state of an object and return it with its version; the same state is not written."""
        if before == after:
            return before
        after = {**after, "metadata": dict(metadata_of(after))}
        raw = self._stamp(after)
        uid = metadata_of(after)["uid"]
        self._execute("UPDATE objects SET body=?, modified=? WHERE uid=?", (raw, time.time(), uid))
        if _counted_owners(before) != _counted_owners(after):
            self._execute("DELETE FROM owners WHERE dependent=?", (uid,))
            self._own(after)
        self._note("MODIFIED", resource, after, raw, image(resource, before), image(resource, after))
        return after

    def remove(self, resource: Resource, obj: Json) -> None:
        """Remove an object."""
        obj = {**obj, "metadata": dict(metadata_of(obj))}
        raw = self._stamp(obj)
        uid = metadata_of(obj)["uid"]
        self._execute("DELETE FROM objects WHERE uid=?", (uid,))
        self._execute("DELETE FROM owners WHERE dependent=?", (uid,))
        self._note("DELETED", resource, obj, raw, image(resource, obj), None)

    def ownerless(self, limit: int) -> list[Ref]:
        """Return objects that have owners of which none is there any more."""
        rows = self._execute(
            """SELECT d.resource, d.namespace, d.name, d.uid
               FROM (SELECT DISTINCT dependent FROM owners) o JOIN objects d ON d.uid = o.dependent
               WHERE NOT EXISTS (SELECT 1 FROM owners r JOIN objects p ON p.uid = r.owner WHERE r.dependent = d.uid)
               LIMIT ?""",
            (limit,),
        )
        return [_ref(row) for row in rows]

    def stalest(self, resource: Resource, keep: int, modified_before: float) -> list[Ref]:
        """Return the objects beyond the newest keep, and those not written since a time (seconds since the epoch)."""
        rows = self._execute(
            "SELECT resource, namespace, name, uid, modified FROM objects WHERE resource=? ORDER BY modified DESC",
            (resource.plural,),
        ).fetchall()
        return [_ref(row) for index, row in enumerate(rows) if index >= keep or row[4] < modified_before]

    def save_version(self) -> None:
        """Write the version counter if it moved; to be called before the commit."""
        if self.version != self._saved:
            self._execute("UPDATE counter SET version=?", (self.version,))

    def take_changes(self) -> list[Change]:
        """Return the changes since the last call and forget them."""
        changes, self._changes = self._changes, []
        return changes

    def _stamp(self, obj: Json) -> bytes:
        self.version += 1
        metadata_of(obj)["resourceVersion"] = str(self.version)
        return encode(obj)

    def _own(self, obj: Json) -> None:
        uid = metadata_of(obj)["uid"]
        for owner in _counted_owners(obj):
            self._execute("INSERT OR IGNORE INTO owners VALUES (?,?)", (uid, owner["uid"]))

    def _note(
        self, type_: str, resource: Resource, obj: Json, raw: bytes, before: Image | None, after: Image | None
    ) -> None:
        metadata = metadata_of(obj)
        self._changes.append(
            Change(resource, self.version, type_, metadata.get("namespace", ""), metadata["name"], raw, before, after)
        )


def _counted_owners(obj: Json) -> list[Json]:
    """Return the owners that keep an object alive; with its deletion under way it depends on none any more."""
    metadata = metadata_of(obj)
    owners: list[Json] = metadata.get("ownerReferences") or []
    return [] if "deletionTimestamp" in metadata else owners


def _decode(body: bytes) -> Json:
    try:
        obj: Json = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise StorageDamaged(f"an object in EMBEDDED_DB cannot be read ({error}): {REMEDY}") from error
    return obj


def _ref(row: tuple[Any, ...]) -> Ref:
    return Ref(BY_PLURAL[row[0]], row[1], row[2], row[3])
