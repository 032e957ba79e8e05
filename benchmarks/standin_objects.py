"""Objects of the stand-in for an API server: in memory, with resource versions, and the changes that watches show.

It does what costs an API server's client something, and nothing else: no validation, no defaults, no grace in which
deleted Pods stay, no finalizers, no pages of lists. Merging, selectors and the journal are those of the embedded
cluster, whose writes are transactions of SQLite and cost several times as much.
"""

import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from controlplane.cluster.api import Expired, Json, Resource
from controlplane.domain.times import rfc3339
from controlplane.embedded.api.database import Change
from controlplane.embedded.api.patch import merge, strategic
from controlplane.embedded.api.resources import Image, ObjectKey, Selection, image, selection
from controlplane.embedded.api.store import Journal


class Refused(Exception):
    """A request that is answered with a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = orjson.dumps({"kind": "Status", "code": code, "reason": reason, "message": message})


class Target(NamedTuple):
    """What a path names; without a name a collection."""

    key: ObjectKey
    subresource: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, its JSON, and what selectors look at."""

    obj: Json
    raw: bytes
    image: Image


def target(path: str) -> Target:
    """Return what a path names; raises Refused."""
    parts = path.strip("/").split("/")
    begin = {"api": 2, "apis": 3}.get(parts[0], len(parts))
    version, rest = "/".join(parts[1:begin]), parts[begin:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    if not 1 <= len(rest) <= 3:
        raise Refused(404, "NotFound", f"the stand-in has no {path}")
    plural, name, subresource = [*rest, "", ""][:3]
    return Target(ObjectKey(_resource(version, plural), namespace, name), subresource)


@lru_cache
def _resource(group_version: str, plural: str) -> Resource:
    return Resource(group_version, plural, "")


class Objects:
    """All objects. Requests raise Refused; follow is called with each change."""

    def __init__(self, follow: Callable[[Change], None]) -> None:
        self.version = 1
        self._follow = follow
        self._objects: defaultdict[Resource, dict[ObjectKey, Stored]] = defaultdict(dict)
        self._journals: defaultdict[Resource, Journal] = defaultdict(lambda: Journal(0))

    def get(self, key: ObjectKey) -> bytes:
        """Return an object."""
        return self._read(key).raw

    def collection(self, key: ObjectKey, labels: str, values: str) -> bytes:
        """Return a collection, as its selectors choose."""
        is_asked = selection(key.resource, key.namespace, labels, values)
        found = b",".join(each.raw for each in self._objects[key.resource].values() if is_asked(each.image))
        return b'{"kind":"List","metadata":{"resourceVersion":"%d"},"items":[%b]}' % (self.version, found)

    def create(self, key: ObjectKey, obj: Json) -> bytes:
        """Create an object in a collection."""
        given = obj.get("metadata") or {}
        key = key._replace(name=given.get("name", ""))
        if key in self._objects[key.resource]:
            raise Refused(409, "AlreadyExists", f"{key.resource.plural} {key.name} already exists")
        metadata = {
            "name": key.name,
            **({"namespace": key.namespace} if key.namespace else {}),
            "uid": str(uuid.uuid4()),
            "resourceVersion": "",
            "creationTimestamp": rfc3339(time.time()),
        }
        # Clients find the version before anything that users choose.
        obj = {
            **obj,
            "metadata": {**metadata, **{name: value for name, value in given.items() if name not in metadata}},
        }
        return self._write(key, None, obj)

    def patch(self, key: ObjectKey, patch: Json, *, by_keys: bool) -> bytes:
        """Merge a patch, strategically if lists merge by keys; versions and UIDs in it are preconditions."""
        before = self._read(key)
        self._check(key, before, patch.get("metadata") or {})
        return self._write(key, before, (strategic if by_keys else merge)(before.obj, patch))

    def delete(self, key: ObjectKey, options: Json) -> bytes:
        """Remove an object at once."""
        before = self._read(key)
        self._check(key, before, options.get("preconditions") or {})
        del self._objects[key.resource][key]
        self.version += 1
        self._changed(Change(key, self.version, _raw(before.obj, self.version), before.image, None))
        return b'{"kind":"Status","status":"Success"}'

    def after(self, resource: Resource, version: str) -> list[Change]:
        """Return the changes of a collection after a version."""
        if not (version.isascii() and version.isdigit()):
            raise Refused(400, "BadRequest", f"{version[:50]!r} is no resource version")
        try:
            return self._journals[resource].after(int(version), self.version)
        except Expired as error:
            raise Refused(410, "Expired", str(error)) from None

    def _read(self, key: ObjectKey) -> Stored:
        found = self._objects[key.resource].get(key)
        if found is None:
            raise Refused(404, "NotFound", f"{key.resource.plural} {key.name} not found")
        return found

    def _check(self, key: ObjectKey, before: Stored, wanted: Json) -> None:
        has = before.obj["metadata"]
        if any(wanted.get(name, has[name]) != has[name] for name in ("uid", "resourceVersion")):
            raise Refused(409, "Conflict", f"{key.resource.plural} {key.name} is another one or another version now")

    def _write(self, key: ObjectKey, before: Stored | None, obj: Json) -> bytes:
        self.version += 1
        raw = _raw(obj, self.version)
        stored = self._objects[key.resource][key] = Stored(obj, raw, image(obj))
        self._changed(Change(key, self.version, raw, None if before is None else before.image, stored.image))
        return raw

    def _changed(self, change: Change) -> None:
        self._journals[change.key.resource].append(change)
        self._follow(change)


def event(is_asked: Selection, change: Change) -> bytes:
    """Return the line that a watch gets of a change; empty where it is not asked for."""
    before = change.before is not None and is_asked(change.before)
    after = change.after is not None and is_asked(change.after)
    if not (before or after):
        return b""
    kind = b"MODIFIED" if before and after else b"ADDED" if after else b"DELETED"
    return b'{"type":"%b","object":%b}\n' % (kind, change.raw)


def bookmark(version: int) -> bytes:
    """Return the line that says how far a watch has come."""
    return b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%d"}}}\n' % version


def _raw(obj: Json, version: int) -> bytes:
    obj["metadata"]["resourceVersion"] = str(version)
    return orjson.dumps(obj)
