"""The SQLite file: one owner, one thread, requests in batches.

All requests that wait are run in one transaction (group commit), each in a
savepoint of its own, so that a refused one leaves no trace and a crash leaves
the file as it was after some batch. Results, and the changes that made them, are
handed to the event loop only after the commit, in the order of their versions.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias, TypeVar

from controlplane.app.ports import StorageDamaged, StorageFull, Transient
from controlplane.embedded.api import integrity
from controlplane.embedded.api.journal import Change
from controlplane.embedded.api.transaction import SCHEMA, SCHEMA_VERSION, Transaction

T = TypeVar("T")
Operation: TypeAlias = Callable[[Transaction], T]

MAX_BATCH = 256
MAX_WAITING = 20_000
"""Requests that may wait; more are refused as Transient."""
_PRAGMAS = (
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=OFF",
    "PRAGMA cache_size=-16384",
)


class CannotOpen(Exception):
    """The file cannot be used; the message says why and what to do."""


@dataclass(slots=True)
class _Request:
    operation: Operation[Any]
    writes: bool
    future: asyncio.Future[Any]
    changes: list[Change] = field(default_factory=list)
    result: Any = None
    error: Exception | None = None


class Database:
    """Runs operations on the file. Made by open; on_changes is called in the event loop before results are told."""

    def __init__(self, path: str, connection: sqlite3.Connection, version: int, *, inline: bool) -> None:
        self._path = path
        self._connection = connection
        self._version = version
        self._inline = inline
        self._loop = asyncio.get_running_loop()
        self._urgent: deque[_Request] = deque()
        self._normal: deque[_Request] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="embedded-store", daemon=True)
        self.on_changes: Callable[[list[Change]], None] = lambda _: None
        self._trouble: Transient | None = None
        self._damaged = asyncio.Event()
        if not inline:
            self._thread.start()

    @classmethod
    async def open(cls, path: str) -> Database:
        """Open or create the file; ":memory:" keeps all in memory and works without a thread. Raises CannotOpen."""
        inline = path == ":memory:"
        connection, version = _connect(path) if inline else await asyncio.to_thread(_connect, path)
        return cls(path, connection, version, inline=inline)

    @property
    def opened_at(self) -> int:
        """The version that the file had when it was opened; later, the newest that was given out."""
        return self._version

    def trouble(self) -> str | None:
        """Say in words why nothing can be written now, None where it can."""
        return str(self._trouble) if self._trouble is not None else None

    async def until_damaged(self) -> NoReturn:
        """Wait until the file turns out to be broken; raises StorageDamaged then."""
        await self._damaged.wait()
        raise StorageDamaged(self.trouble() or "")

    async def run(self, operation: Operation[T], *, writes: bool, urgent: bool = False) -> T:
        """Run an operation and return what it returned, after the commit. Raises what it raised, and Transient."""
        request = _Request(operation, writes, self._loop.create_future())
        if self._closing:
            raise Transient("the embedded cluster is closed")
        if self._inline:
            self._deliver(self._execute([request]))
            await asyncio.sleep(0)
        else:
            with self._wake:
                if len(self._normal) + len(self._urgent) >= MAX_WAITING:
                    raise Transient("the embedded cluster has too many requests waiting", retry_after=1.0)
                (self._urgent if urgent else self._normal).append(request)
                self._wake.notify()
        result: T = await request.future
        return result

    async def close(self) -> None:
        """Finish what waits and close the file. May be called twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if not self._inline:
            await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _serve(self) -> None:
        while batch := self._next_batch():
            done = self._execute(batch)
            try:
                self._loop.call_soon_threadsafe(self._deliver, done)
            except RuntimeError:  # the loop ended without close(): what is committed stays so
                return

    def _next_batch(self) -> list[_Request]:
        with self._wake:
            while not (self._urgent or self._normal or self._closing):
                self._wake.wait()
            batch: list[_Request] = []
            for queue in (self._urgent, self._normal):
                while queue and len(batch) < MAX_BATCH:
                    batch.append(queue.popleft())
            return batch

    def _execute(self, batch: list[_Request]) -> list[_Request]:
        transaction = Transaction(self._connection, self._version)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for request in batch:
                self._execute_one(transaction, request)
            transaction.save_version()
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):  # the next BEGIN tells it if this did not work
                    self._connection.execute("ROLLBACK")
            trouble = self._failure(error)
            for request in batch:
                request.changes, request.result, request.error = [], None, trouble
        else:
            self._version = transaction.version
        return batch

    def _failure(self, error: sqlite3.Error) -> Transient:
        if integrity.damaged(error):
            return StorageDamaged(f"EMBEDDED_DB={self._path}: the file is damaged ({error}): {integrity.REMEDY}")
        if integrity.full(error):
            return StorageFull(f"EMBEDDED_DB={self._path}: the disk is full: make room on it")
        return Transient(f"EMBEDDED_DB={self._path}: the file cannot be used: {error}")

    def _execute_one(self, transaction: Transaction, request: _Request) -> None:
        version = transaction.version
        if request.writes:
            self._connection.execute("SAVEPOINT request")
        try:
            request.result = request.operation(transaction)
        except sqlite3.Error:
            raise
        except Exception as error:  # whatever it is belongs to the caller, not to the others in the batch
            request.error = error
            transaction.version = version
            if request.writes:
                self._connection.execute("ROLLBACK TO request")
        else:
            request.changes = transaction.take_changes()
        transaction.take_changes()
        if request.writes:
            self._connection.execute("RELEASE request")

    def _deliver(self, done: list[_Request]) -> None:
        for request in done:
            self._note(request)
            if request.changes:
                self.on_changes(request.changes)
            if request.future.done():  # its caller was cancelled
                continue
            if request.error is not None:
                request.future.set_exception(request.error)
            else:
                request.future.set_result(request.result)

    def _note(self, request: _Request) -> None:
        if isinstance(request.error, Transient):
            self._trouble = request.error
        elif request.writes:  # what can be read may still not be written
            self._trouble = None
        if isinstance(request.error, StorageDamaged):
            self._damaged.set()


def _connect(path: str) -> tuple[sqlite3.Connection, int]:
    try:
        connection = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise CannotOpen(f"cannot open {path}: {error}; name a file in a folder that can be written") from error
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.execute("BEGIN EXCLUSIVE")
        schema_version = connection.execute("PRAGMA user_version").fetchone()[0]
        if schema_version not in (0, SCHEMA_VERSION):
            raise CannotOpen(f"{path} has format {schema_version}, this software knows {SCHEMA_VERSION}")
        for statement in SCHEMA:
            connection.execute(statement)
        if flaw := integrity.flaw(connection):
            raise CannotOpen(f"the file is damaged ({flaw}): {integrity.REMEDY}")
        version = connection.execute("SELECT version FROM counter").fetchone()[0]
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise CannotOpen(f"{path} is in use by another process; stop that one or name another file") from error
        if integrity.full(error):
            raise CannotOpen("the disk is full: make room on it, or name a file on another one") from error
        raise CannotOpen(f"cannot open {path}: {error}; name a file in a folder that can be written") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise CannotOpen(f"{path} is no file of an embedded cluster: {error}; move it away") from error
        raise CannotOpen(f"the file is damaged ({error}): {integrity.REMEDY}") from error
    except CannotOpen:
        connection.close()
        raise
    return connection, int(version)
