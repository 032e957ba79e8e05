"""What tools see of every VNode: one entry each, made again only where something changed.

Of VNodes that this replica owns, and of those that nobody speaks for, entries are made from memory; of others they are
what their owners sent (``replicas``). Lists, pages and watches read the entries.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.changes import Changes, Subscription, wait_at_most
from controlplane.app.tooling.vnodes import VNodes
from controlplane.domain.identity import VNodeName, base_of_node
from controlplane.rpc.refusals import Ending
from controlplane.rpc.tooling import codec

GATHER = 0.1
"""Seconds in which changes are gathered before entries are made again."""

KEPT_FOR = 60.0
"""Seconds for which the entries of a replica that is gone count, until another one takes its VNodes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One VNode, its modules by name, version and Pod, the last operations on them; owned: by whoever made this."""

    vnode: pb.VNode
    modules: tuple[pb.Module, ...] = ()
    operations: tuple[pb.PastOperation, ...] = ()
    owned: bool = True

    def chosen(self, request: pb.ListModulesRequest | pb.WatchModulesRequest) -> Iterator[pb.Module]:
        """Iterate over the modules that a request asks for."""
        for module in self.modules:
            if request.name in ("", module.name) and request.management in (0, module.management):
                yield module


class Index:
    """The entries by Node name; changed has the names of those that are others now.

    What is not asked for in a while is not kept.
    """

    def __init__(self, vnodes: VNodes) -> None:
        self.changed: Changes[str] = Changes()
        self._vnodes = vnodes
        self._ending = False
        self._dirty: Subscription[VNodeName] | None = None
        """Names of VNodes to look at; None: nothing is known."""
        self._local: dict[str, Entry] = {}
        self._theirs: dict[str, dict[str, Entry]] = {}
        self._seen: dict[str, Mapping[str, Timestamp]] = {}
        self._gone: dict[str, float] = {}
        self._entries: dict[str, Entry] = {}
        self._names: list[str] | None = None
        self._watchers = 0
        self._watched = asyncio.Event()
        self._used_at = 0.0

    # Reading.

    def entries(self) -> Mapping[str, Entry]:
        """Return all entries as they are now."""
        self._used_at = asyncio.get_running_loop().time()
        self._refresh()
        return self._entries

    def names(self, first: str = "") -> Sequence[str]:
        """Return the names in order, from one on."""
        entries = self.entries()
        if self._names is None:
            self._names = sorted(entries)
        return self._names[bisect_left(self._names, first) :]

    def find(self, name: str) -> Entry:
        """Return the entry of that Node name or base identity; raises Missing."""
        entries = self.entries()
        return entries[self._vnodes.named(name, entries)]

    def owned(self, name: str) -> Entry | None:
        """Return the entry of a VNode that this replica owns."""
        entry = self._local.get(name)
        return entry if entry is not None and entry.owned else None

    def lively(self, entry: Entry) -> pb.VNode:
        """Return a VNode with when it was last seen, which changes too often to be part of its entry."""
        name = entry.vnode.name
        base = self._vnodes.base(name)
        if base is not None:
            at = codec.last_seen(base)
        else:
            at = next((seen[name] for seen in self._seen.values() if name in seen), None)
        message = pb.VNode(last_seen=at)
        message.MergeFrom(entry.vnode)
        return message

    @contextmanager
    def watched(self) -> Iterator[Subscription[str]]:
        """Keep the entries current by themselves, and give the names: of all, then of those that change."""
        self._watchers += 1
        self._watched.set()
        try:
            with self.changed.subscribed() as names:
                for name in self.entries():
                    names.note(name)
                yield names
        finally:
            self._watchers -= 1

    def end(self) -> None:
        """Let nobody read on: that bases are let go of from now on is no news of them."""
        self._ending = True
        self.changed.nudge()

    def go_on(self) -> None:
        """Raise Ending once the replica ends."""
        if self._ending:
            raise Ending

    # What others own.

    def replace(self, replica: str, entries: Mapping[str, Entry]) -> None:
        """Take all that another replica owns."""
        self._gone.pop(replica, None)
        before, self._theirs[replica] = self._theirs.get(replica, {}), dict(entries)
        for name in before.keys() | entries.keys():
            self._choose(name)

    def put(self, replica: str, name: str, entry: Entry | None) -> None:
        """Take how a VNode of another replica is now; None: it is that one's no more."""
        entries = self._theirs.setdefault(replica, {})
        if entry is None:
            entries.pop(name, None)
        else:
            entries[name] = entry
        self._choose(name)

    def seen(self, replica: str, last_seen: Mapping[str, Timestamp]) -> None:
        """Take when the VNodes of another replica were last seen."""
        self._seen[replica] = last_seen

    def gone(self, replica: str) -> None:
        """Keep the entries of a replica that lives no more for a while, until another one takes its VNodes."""
        self._seen.pop(replica, None)
        if replica in self._theirs:
            self._gone[replica] = asyncio.get_running_loop().time()

    # Keeping it current.

    async def run(self) -> NoReturn:
        """Keep entries current while somebody watches; drop them when nobody asked for a while."""
        loop = asyncio.get_running_loop()
        while True:
            if self._watchers:
                self.entries()
                if self._dirty is not None:
                    await self._dirty.wait(1.0)
                await asyncio.sleep(GATHER)
            else:
                self._watched.clear()
                await wait_at_most(KEPT_FOR, self._watched)
                if loop.time() - self._used_at >= KEPT_FOR:
                    self._drop()

    def _drop(self) -> None:
        if self._dirty is not None:
            self._vnodes.roster.changed.unsubscribe(self._dirty)
        self._dirty, self._names = None, None
        for kept in (self._local, self._theirs, self._seen, self._gone, self._entries):
            kept.clear()

    def _refresh(self) -> None:
        """Make the entries again that changed since the last time."""
        if self._dirty is None:
            self._dirty = self._vnodes.roster.changed.subscribe()
            names = self._vnodes.names()
        else:
            names = self._dirty.take()
        now = asyncio.get_running_loop().time()
        for replica in [name for name, at in self._gone.items() if now - at >= KEPT_FOR]:
            del self._gone[replica]
            names |= set(map(VNodeName, self._theirs.pop(replica)))
        for name in names:
            entry = self._made(name)
            if entry is None:
                self._local.pop(name, None)
            elif entry != self._local.get(name):
                self._local[name] = entry
                self.changed.note(name)
            self._choose(name)

    def _made(self, name: VNodeName) -> Entry | None:
        identity, base = base_of_node(name, self._vnodes.env), self._vnodes.base(name)
        cluster = self._vnodes.cluster
        node = cluster.nodes.get(name)
        if identity is None or (node is None and base is None):
            return None
        vnode = codec.vnode(name, identity, node, base, self._vnodes.lease(name))
        modules = codec.modules(name, base, cluster.pods.on_node(name))
        operations = [codec.past(name, operation) for operation in (base.history if base is not None else ())]
        return Entry(vnode, tuple(modules), tuple(operations), owned=base is not None)

    def _choose(self, name: str) -> None:
        """Let the entry of a VNode's owner count; of several, as while it changes hands, that of its holder."""
        local = self._local.get(name)
        owners = {"": local} if local is not None and local.owned else {}
        for replica, entries in sorted(self._theirs.items(), key=lambda each: each[0] in self._gone):
            if name in entries and (replica not in self._gone or local is not None):
                owners[replica] = entries[name]
        lease = self._vnodes.lease(name)
        entry = owners.get(lease.holder if lease is not None else "") or next(iter(owners.values()), local)
        before = self._entries.get(name)
        if entry is not None and before is not None and entry.owned and entry.vnode.modules_unknown:
            entry = _with_unlisted(entry, before)
        if entry is None:
            self._entries.pop(name, None)
        else:
            self._entries[name] = entry
        if (entry is None) is not (before is None):
            self._names = None
        if entry != before:
            self.changed.note(name)


def _with_unlisted(entry: Entry, before: Entry) -> Entry:
    """Return an entry with the modules without a Pod as they were: not known after a change of hands, not absent."""
    known = {(module.name, module.version) for module in entry.modules}
    kept = [one for one in before.modules if not one.pod and (one.name, one.version) not in known]
    return replace(entry, modules=tuple(sorted((*entry.modules, *kept), key=codec.module_key))) if kept else entry
