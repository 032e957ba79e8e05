"""The SQLite file, and the objects in it: one owner, one thread, each request a transaction.

A refused request leaves no trace, and a crash leaves the file as it was after some request. Results, and the changes
that made them, are handed to the event loop only after the commit, in the order of their versions.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Self, TypeAlias, TypeVar

import orjson

from controlplane.app.ports import Rejected, StorageDamaged, StorageFull, Transient, Unknown
from controlplane.cluster import fields
from controlplane.cluster.api import Json, Resource
from controlplane.embedded.api.resources import RESOURCES, Image, ObjectKey, image, object_key

T = TypeVar("T")

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
DEADLINE = 10.0
MAX_WAITING = 20_000
"""Requests that may wait; more are refused as Transient."""
_PRAGMAS = (
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA cache_size=-16384",
)


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
            "SELECT name, namespace FROM objects WHERE resource=:resource AND (modified<:before OR rowid NOT IN"
            " (SELECT rowid FROM objects WHERE resource=:resource ORDER BY modified DESC LIMIT :keep))",
            {"resource": resource.plural, "before": modified_before, "keep": keep},
        )
        return [object_key(resource, name, namespace) for name, namespace in rows]

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


Operation: TypeAlias = Callable[[Transaction], T]


class CannotOpen(Exception):
    """The file cannot be used; the message says why and what to do."""


class Database:
    """Runs operations on the file. Made by open."""

    def __init__(self, path: str, connection: sqlite3.Connection, version: int, thread: Executor | None) -> None:
        self._path = path
        self._connection = connection
        self.version = version
        """The newest that was given out."""
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self.closing = False
        self._trouble: Transient | None = None
        self._damaged = asyncio.Event()

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open or create the file; ":memory:" keeps all in memory and works without a thread. Raises CannotOpen."""
        if path == ":memory:":
            return cls(path, *_connect(path), None)
        thread = ThreadPoolExecutor(1, "embedded-store")
        try:
            opened = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(path, *opened, thread)

    def publish(self, changes: list[Change]) -> None:
        """Take note of committed changes, in the event loop, before their writer gets its result."""

    def trouble(self) -> str | None:
        """Say in words why nothing can be written now, None where it can."""
        return str(self._trouble) if self._trouble is not None else None

    async def until_damaged(self) -> NoReturn:
        """Wait until the file turns out to be broken; raises StorageDamaged then."""
        await self._damaged.wait()
        raise StorageDamaged(self.trouble() or "")

    async def read(self, operation: Operation[T], deadline: float = DEADLINE) -> T:
        """Run an operation that changes nothing; raises what it raises, Transient."""
        try:
            async with asyncio.timeout(deadline):
                return await self._run(operation, writes=False)
        except TimeoutError as error:
            raise Transient(f"the embedded cluster did not answer within {deadline:.0f} s") from error

    async def write(self, operation: Operation[T]) -> T:
        """Run an operation and return what it returned, after the commit; raises what it raises, Transient, Unknown."""
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._run(operation, writes=True)
        except TimeoutError as error:
            raise Unknown(f"the embedded cluster did not confirm a write within {DEADLINE:.0f} s") from error

    async def _run(self, operation: Operation[T], *, writes: bool) -> T:
        if self.closing:
            raise Transient("the embedded cluster is closed")
        if self._waiting >= MAX_WAITING:
            raise Transient("the embedded cluster has too many requests waiting", retry_after=1.0)
        self._waiting += 1
        done: asyncio.Future[T] = self._loop.create_future()
        if self._thread is None:
            self._deliver(done, writes, *self._execute(operation))
            await asyncio.sleep(0)
        else:
            self._thread.submit(self._serve, operation, writes, done)
        return await done

    async def close(self) -> None:
        """Finish what waits and close the file. May be called twice."""
        self.closing = True
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()

    def _serve(self, operation: Operation[T], writes: bool, done: asyncio.Future[T]) -> None:
        outcome = self._execute(operation)
        with suppress(RuntimeError):  # the loop ended without close(): what is committed stays so
            self._loop.call_soon_threadsafe(self._deliver, done, writes, *outcome)

    def _execute(self, operation: Operation[T]) -> tuple[T | Exception, list[Change]]:
        """Return what an operation returned or raised, and the changes that are committed."""
        transaction = Transaction(self._connection, self.version)
        try:
            with self._connection:  # commits, or undoes all
                self._connection.execute("BEGIN IMMEDIATE")
                result = operation(transaction)
                if transaction.changes:
                    self._connection.execute("UPDATE counter SET version=?", (transaction.version,))
        except sqlite3.Error as error:
            return self._failure(error), []
        except Exception as error:  # whatever it is belongs to the caller
            return error, []
        self.version = transaction.version
        return result, transaction.changes

    def _failure(self, error: sqlite3.Error) -> Transient:
        if _is(error, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StorageDamaged(f"EMBEDDED_DB={self._path}: the file is damaged ({error}): {REMEDY}")
        if _is(error, sqlite3.SQLITE_FULL):
            return StorageFull(f"EMBEDDED_DB={self._path}: the disk is full: make room on it")
        return Transient(f"EMBEDDED_DB={self._path}: the file cannot be used: {error}")

    def _deliver(self, done: asyncio.Future[T], writes: bool, outcome: T | Exception, changes: list[Change]) -> None:
        self._waiting -= 1
        if isinstance(outcome, Transient):
            self._trouble = outcome
        elif writes:  # what can be read may still not be written
            self._trouble = None
        if isinstance(outcome, StorageDamaged):
            self._damaged.set()
        if changes:
            self.publish(changes)
        if done.done():  # its caller was cancelled
            return
        if isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)


def _connect(path: str) -> tuple[sqlite3.Connection, int]:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
        return connection, _prepare(connection, path)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if not isinstance(error, sqlite3.DatabaseError):
            raise
        if _is(error, sqlite3.SQLITE_NOTADB):
            text = f"{path} is no file of an embedded cluster: {error}; move it away"
        elif not isinstance(error, sqlite3.OperationalError):
            text = f"the file is damaged ({error}): {REMEDY}"
        elif "locked" in str(error):
            text = f"{path} is in use by another process; stop that one or name another file"
        elif _is(error, sqlite3.SQLITE_FULL):
            text = "the disk is full: make room on it, or name a file on another one"
        else:
            text = f"cannot open {path}: {error}; name a file in a folder that can be written"
        raise CannotOpen(text) from error


def _prepare(connection: sqlite3.Connection, path: str) -> int:
    """Lock, complete and read the whole file, and return its version."""
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    connection.execute("BEGIN EXCLUSIVE")
    (schema_version,) = connection.execute("PRAGMA user_version").fetchone()
    if schema_version not in (0, 1, SCHEMA_VERSION):
        raise CannotOpen(f"{path} has format {schema_version}, this software knows {SCHEMA_VERSION}")
    for statement in SCHEMA:
        connection.execute(statement)
    if flaw := _flaw(connection):
        raise CannotOpen(f"the file is damaged ({flaw}): {REMEDY}")
    if schema_version == 1:
        _take_over_pods_of_replica_sets(connection)
    (version,) = connection.execute("SELECT version FROM counter").fetchone()
    connection.execute("COMMIT")
    return int(version)


def _is(error: sqlite3.Error, *codes: int) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes  # the low byte says what kind it is


def _flaw(connection: sqlite3.Connection) -> str:
    """Return what is broken in the file, in its pages or in the objects in them; nothing when it is whole."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        return " ".join(str(found).split())
    if not isinstance((connection.execute("SELECT version FROM counter").fetchone() or (None,))[0], int):
        return "it has no version"
    rows = connection.execute("SELECT resource, namespace, name, uid, body FROM objects")
    for resource, namespace, name, uid, body in rows:
        if not _is_whole(resource, namespace, name, uid, body):
            return f"the object {resource} {namespace}/{name} cannot be read"
    return ""


def _is_whole(resource: object, namespace: object, name: object, uid: object, body: bytes) -> bool:
    metadata = fields.mapping(fields.parsed(body) or {}, "metadata")
    same = (metadata.get("namespace", ""), metadata.get("name"), metadata.get("uid")) == (namespace, name, uid)
    known = resource in (*(each.plural for each in RESOURCES), "replicasets")
    return known and same and str(metadata.get("resourceVersion", "")).isdecimal()


def _take_over_pods_of_replica_sets(connection: sqlite3.Connection) -> None:
    """Go from format 1 to 2: Deployments own their Pods themselves, and no table says who owns what.

    Pods of a ReplicaSet that nobody owned stay as they are; one that was gone already counts as a Deployment that is
    gone.
    """
    sets = connection.execute("SELECT uid, body FROM objects WHERE resource='replicasets'").fetchall()
    owners = {uid: orjson.loads(body)["metadata"].get("ownerReferences", []) for uid, body in sets}
    for uid, body in connection.execute("SELECT uid, body FROM objects WHERE resource='pods'").fetchall():
        pod = orjson.loads(body)
        references: list[Json] = []
        for each in pod["metadata"].get("ownerReferences", []):
            gone = {**each, "kind": "Deployment"} if each["kind"] == "ReplicaSet" else each
            references += owners.get(each["uid"], [gone])
        pod["metadata"]["ownerReferences"] = references
        connection.execute("UPDATE objects SET body=? WHERE uid=?", (orjson.dumps(pod), uid))
    connection.execute("DELETE FROM objects WHERE resource='replicasets'")
    connection.execute("DROP TABLE IF EXISTS owners")
