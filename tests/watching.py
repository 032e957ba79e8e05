"""Every change of a collection of the cluster, in the order in which a watch sent them."""

import http.client
import threading
import time
from dataclasses import dataclass
from typing import Self

from tests.servers.kubeapi import ApiError, Json, KubeApi, Watch

AGAIN = 0.5
"""Seconds until a broken watch is started again."""


@dataclass(frozen=True, slots=True)
class Change:
    """kind is ADDED, MODIFIED or DELETED; at is when it was received, in monotonic seconds.

    since is the same, or earlier where a watch had broken: it happened between the two.
    """

    since: float
    at: float
    kind: str
    obj: Json


class Watching:
    """Follows a collection in a thread of its own; a context manager.

    A broken watch is started again with a list. Objects that are missing in it count as DELETED, those with another UID
    as DELETED and ADDED. Other changes of that time may be missing; breaks counts how often this happened.
    """

    def __init__(self, api: KubeApi, path: str) -> None:
        self._api = api
        self._path = path
        self._known: dict[str, Json] = {}
        self._current: Watch | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)
        self._current_at = time.monotonic()
        self.changes: list[Change] = []
        self.breaks = 0

    def __enter__(self) -> Self:
        self._begin()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._current is not None:
            self._current.end()
        self._thread.join(timeout=30)

    def _begin(self) -> None:
        listed = self._api.get(self._path)
        found = {obj["metadata"]["uid"]: obj for obj in listed["items"]}
        for uid, obj in list(self._known.items()):
            if uid not in found:
                self._take("DELETED", obj, self._current_at)
        for uid, obj in found.items():
            if uid not in self._known:
                self._take("ADDED", obj, self._current_at)
        self._current_at = time.monotonic()
        self._current = self._api.watch(self._path, listed["metadata"]["resourceVersion"])

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                if self._current is None:
                    self._begin()
                for kind, obj in self._current or ():
                    if kind == "ERROR":
                        break
                    self._take(kind, obj)
            except (OSError, ValueError, ApiError, http.client.HTTPException):
                pass
            if self._current is not None and not self._over.is_set():
                self._current.end()
                self._current = None
                self.breaks += 1
            self._over.wait(AGAIN)

    def _take(self, kind: str, obj: Json, since: float | None = None) -> None:
        now = time.monotonic()
        if kind != "BOOKMARK":
            uid = obj["metadata"]["uid"]
            if kind == "DELETED":
                self._known.pop(uid, None)
            else:
                self._known[uid] = obj
            self.changes.append(Change(now if since is None else since, now, kind, obj))
        if since is None:
            self._current_at = now
