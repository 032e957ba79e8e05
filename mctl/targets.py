"""What can be waited for, and how it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mctl.errors import NotFound, Usage
from mctl.records import Json, Module, Ref
from mctl.rpc.client import Client


@dataclass(frozen=True, slots=True)
class Standing:
    """How a target stands; why says in words what keeps it from being ready."""

    present: bool
    ready: bool
    why: str = ""


_ABSENT = Standing(present=False, ready=False, why="is not there")


class WaitTarget(Protocol):
    """Something to wait for."""

    @property
    def title(self) -> str:
        """Return kind/name."""

    def look(self, client: Client, timeout: float) -> Standing:
        """Ask the server, for timeout seconds at most, how the target stands; raises Failure but not NotFound."""


@dataclass(frozen=True, slots=True)
class VNodeTarget:
    """A VNode by Node name or base identity."""

    name: str

    @property
    def title(self) -> str:
        """Return vnode/NAME."""
        return f"vnode/{self.name}"

    def look(self, client: Client, timeout: float) -> Standing:
        """Return how the VNode stands."""
        try:
            vnode = client.within(timeout).get_vnode(self.name).vnode
        except NotFound:
            return _ABSENT
        return Standing(True, vnode.ready, f"is {vnode.state}{_because(vnode.message)}")


@dataclass(frozen=True, slots=True)
class ModuleTarget:
    """A module, of one version and on one base when these are given."""

    name: str
    version: str = ""
    base: str = ""

    @property
    def title(self) -> str:
        """Return module/NAME[:VERSION]."""
        return f"module/{self.name}{':' if self.version else ''}{self.version}"

    def look(self, client: Client, timeout: float) -> Standing:
        """Return how the module stands: ready when it is on some base, and ready on all that have it."""
        asked = client.within(timeout)
        try:
            listed = asked.list_modules(self.base, self.name)
            found = [m for m in listed if m.name == self.name and self.version in ("", m.version)]
        except NotFound:
            return _ABSENT
        if not found:
            return self._unfound(asked)
        unready = [m for m in found if not m.ready]
        why = f"{len(found) - len(unready)} of {len(found)} ready; {_state(unready[0])}" if unready else "is there"
        return Standing(True, not unready, why)

    def _unfound(self, client: Client) -> Standing:
        """Return how a module stands that no list has: where a list is not known, it may be there."""
        vnodes = [vnode for vnode in client.list_vnodes() if self.base in ("", vnode.name, vnode.base)]
        untold = [vnode.name for vnode in vnodes if vnode.modules is None]
        if untold:
            return Standing(True, False, f"may be there: it is not known which modules {untold[0]} has")
        return _ABSENT


@dataclass(frozen=True, slots=True)
class ObjectTarget:
    """An object of the embedded cluster."""

    ref: Ref

    @property
    def title(self) -> str:
        """Return kind/name."""
        return self.ref.title

    def look(self, client: Client, timeout: float) -> Standing:
        """Return how the object stands; one that is being deleted is not ready."""
        try:
            live = client.within(timeout).get_object(self.ref)
        except NotFound:
            return _ABSENT
        metadata = live.value.get("metadata")
        if isinstance(metadata, dict) and metadata.get("deletionTimestamp"):
            return Standing(present=True, ready=False, why="is being deleted")
        return Standing(True, live.ready, "is there" if live.ready else f"is not ready{_because(_trouble(live.value))}")


_KINDS = {"pod": ("v1", "Pod"), "deployment": ("apps/v1", "Deployment"), "daemonset": ("apps/v1", "DaemonSet")}
_TARGET = re.compile(r"([a-z]+)/([^/\s]+)")


def parse_target(text: str, *, base: str, namespace: str) -> WaitTarget:
    """Return the target that kind/name means; raises Usage."""
    found = _TARGET.fullmatch(text)
    kind, name = found.groups() if found else ("", "")
    match kind:
        case "vnode":
            return VNodeTarget(name)
        case "module":
            biz, _, version = name.partition(":")
            return ModuleTarget(biz, version, base)
        case _ if kind in _KINDS:
            api_version, object_kind = _KINDS[kind]
            return ObjectTarget(Ref(api_version, object_kind, namespace, name))
        case _:
            known = ", ".join(f"{k}/NAME" for k in ("vnode", *_KINDS))
            raise Usage(f"{text!r} cannot be waited for: write {known} or module/NAME[:VERSION]")


def _because(text: str) -> str:
    return f": {text}" if text else ""


def _state(module: Module) -> str:
    words = [module.state, module.reason, module.message]
    return f"{module.vnode}: {': '.join(filter(None, words))}"


def _trouble(pod: Json) -> str:
    return "; ".join(_waiting(pod.get("status")))


def _waiting(status: Any) -> Iterator[str]:
    statuses = status.get("containerStatuses") if isinstance(status, dict) else None
    for container in statuses if isinstance(statuses, list) else ():
        state = container.get("state") if isinstance(container, dict) else None
        waiting = state.get("waiting") if isinstance(state, dict) else None
        if isinstance(waiting, dict):
            words = (container.get("name"), waiting.get("reason"), waiting.get("message"))
            yield ": ".join(str(w) for w in words if w)
