"""What tools see of every VNode: one entry each, made again only where something changed.

Of VNodes that this replica owns, and of those that nobody speaks for, entries are made from memory; of others they are
what their owners sent (``replicas``). Lists, pages and watches read the entries.
"""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import NoReturn, Self

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.app.changes import Changes, Subscription, wait_at_most
from controlplane.app.tooling.vnodes import VNodes
from controlplane.app.turns import Turns
from controlplane.domain.base.usage import Usage
from controlplane.domain.identity import VNodeName, base_of_node
from controlplane.rpc.refusals import Ending
from controlplane.rpc.tooling import codec

GATHER = 0.1
"""Seconds in which changes are gathered before entries are made again."""

MADE_AT_ONCE = 30
"""Entries, and modules in them, that are made in one turn: 1 to 3 ms."""

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

    What is not asked for in a while is not kept. Entries are made in turns, so that however much changed, others run
    in between.
    """

    def __init__(self, vnodes: VNodes) -> None:
        self.changed: Changes[str] = Changes()
        self._vnodes = vnodes
        self._ending = False
        self._dirty: Subscription[VNodeName] | None = None
        """Names of VNodes to look at; None: nothing is known."""
        self._making = asyncio.Lock()
        self._local: dict[str, Entry] = {}
        self._theirs: dict[str, dict[str, Entry]] = {}
        self._seen: dict[str, Mapping[str, Timestamp]] = {}
        self._used: dict[str, Mapping[str, rpb.BaseUsage]] = {}
        self._gone: dict[str, float] = {}
        self._entries: dict[str, Entry] = {}
        self._names: list[str] = []
        """Those of the entries, in order."""
        self._watchers = 0
        self._watched = asyncio.Event()
        self._used_at = 0.0

    # Reading.

    async def entries(self) -> Mapping[str, Entry]:
        """Return all entries; all that was so when this was called is in them, and what changes goes on doing so."""
        async with self._making:
            self._used_at = asyncio.get_running_loop().time()
            await self._make()
            return self._entries

    def walk(self, first: str = "", only: str = "") -> "Walk":
        """Return the entries by name, from one on, or only one, to be iterated over."""
        return Walk(self._entries, (only,) if only else self._names, first)

    def find(self, name: str) -> Entry:
        """Return the entry of that Node name or base identity; raises Missing."""
        return self._entries[self._vnodes.named(name, self._entries)]

    def owned(self, name: str) -> Entry | None:
        """Return the entry of a VNode that this replica owns."""
        entry = self._local.get(name)
        return entry if entry is not None and entry.owned else None

    def lively(self, entry: Entry) -> pb.VNode:
        """Return a VNode with when it was last seen, which changes too often to be part of its entry."""
        name = entry.vnode.name
        base = self._vnodes.heard(name)
        if base is not None:
            at = codec.last_seen(base)
        else:
            at = next((seen[name] for seen in self._seen.values() if name in seen), None)
        message = pb.VNode(last_seen=at)
        message.MergeFrom(entry.vnode)
        return message

    def usage(self, name: str) -> Usage | None:
        """Return what the base of a VNode uses, as its owner last said; None where it did not."""
        self._used_at = asyncio.get_running_loop().time()
        base = self._vnodes.heard(name)
        if base is not None:
            return base.usage
        found = [codec.used(used[name]) for used in self._used.values() if name in used]
        return max(found, key=lambda usage: usage.at, default=None)

    @contextmanager
    def watched(self) -> Iterator[Subscription[str]]:
        """Keep the entries current by themselves, and give the names of those that change."""
        self._watchers += 1
        self._watched.set()
        try:
            with self.changed.subscribed() as names:
                yield names
        finally:
            self._watchers -= 1

    def end(self) -> None:
        """Let nobody read on, and make no entry any more: that bases are let go of from now on is no news of them."""
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
        self._look_at(before.keys() | entries.keys())

    def put(self, replica: str, name: str, entry: Entry | None) -> None:
        """Take how a VNode of another replica is now; None: it is that one's no more."""
        entries = self._theirs.setdefault(replica, {})
        if entry is None:
            entries.pop(name, None)
        else:
            entries[name] = entry
        self._look_at((name,))

    def seen(self, replica: str, last_seen: Mapping[str, Timestamp], used: Mapping[str, rpb.BaseUsage]) -> None:
        """Take when the VNodes of another replica were last seen, and what their bases use."""
        self._seen[replica], self._used[replica] = last_seen, used

    def gone(self, replica: str) -> None:
        """Keep the entries of a replica that lives no more for a while, until another one takes its VNodes."""
        self._seen.pop(replica, None)
        self._used.pop(replica, None)
        if replica in self._theirs:
            self._gone[replica] = asyncio.get_running_loop().time()

    def forget(self, replica: str) -> None:
        """Keep nothing of a replica that is followed no more: it will send everything again."""
        for kept in (self._seen, self._used, self._gone):
            kept.pop(replica, None)
        self._look_at(self._theirs.pop(replica, ()))

    # Keeping it current.

    async def run(self) -> NoReturn:
        """Keep entries current while somebody watches; drop them when nobody asked for a while."""
        loop = asyncio.get_running_loop()
        while True:
            if self._watchers:
                await self.entries()
                if self._dirty is not None:
                    await self._dirty.wait(1.0)
                await asyncio.sleep(GATHER)
            else:
                self._watched.clear()
                await wait_at_most(KEPT_FOR, self._watched)
                async with self._making:
                    if loop.time() - self._used_at >= KEPT_FOR:
                        self._drop()

    def _drop(self) -> None:
        if self._dirty is not None:
            self._vnodes.roster.changed.unsubscribe(self._dirty)
        self._dirty = None
        for replica in tuple(self._gone):
            self.forget(replica)
        self._local.clear()
        self._entries.clear()
        self._names.clear()

    def _look_at(self, names: Iterable[str]) -> None:
        """Have entries chosen again, unless nothing is known, when all will be."""
        if self._dirty is not None:
            for name in names:
                self._dirty.note(VNodeName(name))

    async def _make(self) -> None:
        """Make the entries again that changed since the last time."""
        now = asyncio.get_running_loop().time()
        for replica in [name for name, at in self._gone.items() if now - at >= KEPT_FOR]:
            self.forget(replica)
        if self._dirty is None:
            self._dirty = self._vnodes.roster.changed.subscribe()
            names = iter(self._all())
        else:
            names = iter(self._dirty.take())
        turns = Turns(MADE_AT_ONCE)
        try:
            # At the end of the replica they stay as they are: that bases are let go of is no news.
            while not self._ending and (name := next(names, None)) is not None:
                await turns.handled(1 + self._make_one(name))
        finally:
            # A call that is cancelled meanwhile leaves the rest to the next one.
            self._look_at(names)

    def _all(self) -> Iterable[VNodeName]:
        """Return the names of all that there may be."""
        nodes = (node.name for node in self._vnodes.cluster.nodes.all())
        bases = (base.vnode for base in self._vnodes.roster.bases())
        return dict.fromkeys(map(VNodeName, chain(nodes, bases, *self._theirs.values())))

    def _make_one(self, name: VNodeName) -> int:
        """Make an entry again; return how many modules that took."""
        entry = self._made(name)
        if entry is None:
            self._local.pop(name, None)
        elif entry != self._local.get(name):
            self._local[name] = entry
            self.changed.note(name)
        self._choose(name)
        return len(entry.modules) if entry is not None else 0

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
        if entry is before:
            return
        if before is None:
            insort(self._names, name)
        if entry is None:
            del self._entries[name], self._names[bisect_left(self._names, name)]
        else:
            self._entries[name] = entry
        if entry != before:
            self.changed.note(name)


class Walk:
    """Iterates over entries by name in turns; entries that come and go meanwhile disturb nothing."""

    def __init__(self, entries: Mapping[str, Entry], names: Sequence[str], first: str) -> None:
        self._entries = entries
        self._names = names
        self._place = partial(bisect_left, names, first)
        """Finds the place of the next name."""
        self._weight = 0
        """Things to look at in the last entry: itself and its modules."""
        self._turns = Turns()

    def __aiter__(self) -> Self:
        """Go on where it is."""
        return self

    async def __anext__(self) -> Entry:
        """Return the next entry."""
        await self._turns.handled(self._weight)
        entry = None
        while entry is None:
            place = self._place()
            if place == len(self._names):
                raise StopAsyncIteration
            name = self._names[place]
            self._place = partial(bisect_right, self._names, name)
            entry = self._entries.get(name)
        self._weight = 1 + len(entry.modules)
        return entry


def _with_unlisted(entry: Entry, before: Entry) -> Entry:
    """Return an entry with the modules without a Pod as they were: not known after a change of hands, not absent."""
    known = {(module.name, module.version) for module in entry.modules}
    kept = [one for one in before.modules if not one.pod and (one.name, one.version) not in known]
    return replace(entry, modules=tuple(sorted((*entry.modules, *kept), key=codec.module_key))) if kept else entry
