"""What an informer knows: objects by key, fed by lists, watches and our own writes.

These three arrive in any order, so that each may only move an object forward:

    the cache never replaces an object by an older version of it, and never takes
    back an object whose deletion it has seen

Resource versions are compared as numbers where both are decimal, which is what Kubernetes defines for them; otherwise
a watch counts, and a write's result waits for the watch.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

_LONGEST_VERSION = 20


class Versioned(Protocol):
    """A view of one version of one object."""

    @property
    def uid(self) -> str:
        """Which object it is, of all that ever had its name."""

    @property
    def resource_version(self) -> str:
        """Version."""


V = TypeVar("V", bound=Versioned)


def newer(version: str, than: str) -> bool | None:
    """Return whether a resource version is newer than another; None if that cannot be known."""
    if version == than:
        return False
    if _decimal(version) and _decimal(than):
        return int(version) > int(than)
    return None


def _decimal(version: str) -> bool:
    return 0 < len(version) <= _LONGEST_VERSION and version.isascii() and version.isdigit()


class Cache(Generic[V]):
    """Objects by key, and how far the watch has come."""

    def __init__(self) -> None:
        self._objects: dict[str, V] = {}
        self.seen = ""
        """The version up to which the cluster has shown us everything; empty where a list is needed."""

    def announce(self, key: str, old: V | None, new: V | None) -> None:
        """Take note of a change, after it."""

    def get(self, key: str) -> V | None:
        """Return the object under namespace/name, or name for what has no namespace."""
        return self._objects.get(key)

    def all(self) -> Iterator[V]:
        """Iterate over a snapshot."""
        return iter(tuple(self._objects.values()))

    def keys(self) -> Iterator[str]:
        """Iterate over a snapshot of the keys."""
        return iter(tuple(self._objects))

    def replace(self, listed: Iterable[tuple[str, V]], version: str) -> None:
        """Take a complete list as of version; what our own writes made since then stays."""
        self.seen = version
        new = dict(listed)
        for key in [key for key in self._objects if key not in new]:
            self._drop(key, version)
        for key, view in new.items():
            self._forward(key, view)

    def changed(self, key: str, view: V) -> None:
        """Take an object as a watch shows it."""
        self._forward(key, view)
        self.seen = view.resource_version or self.seen

    def gone(self, key: str, view: V) -> None:
        """Take from a watch that an object was deleted, or does not match any more."""
        self._drop(key, view.resource_version)
        self.seen = view.resource_version or self.seen

    def written(self, key: str, view: V) -> V:
        """Take the result of our own write, unless the watch is further already; return it."""
        known = self._objects.get(key)
        # An absent object that the watch is past has been deleted since we wrote it.
        reference = known.resource_version if known is not None else self.seen
        if not reference or newer(view.resource_version, reference):
            self._put(key, view)
        return view

    def _forward(self, key: str, view: V) -> None:
        known = self._objects.get(key)
        if known is None or (
            view.resource_version != known.resource_version
            and newer(view.resource_version, known.resource_version) is not False
        ):
            self._put(key, view)

    def _put(self, key: str, view: V) -> None:
        old = self._objects.get(key)
        self._objects[key] = view
        self.announce(key, old, view)

    def _drop(self, key: str, version: str) -> None:
        """Drop an object as of a version, unless ours is newer."""
        known = self._objects.get(key)
        if known is not None and newer(known.resource_version, version) is not True:
            self.announce(key, self._objects.pop(key), None)
