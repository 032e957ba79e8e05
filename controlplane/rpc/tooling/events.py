"""Events of all replicas, each once, for those who read them."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import KEPT, Happening, Recorder
from controlplane.rpc.refusals import TooSlow
from controlplane.rpc.tooling import codec
from service.limits import Recent

WAITING = 5000
"""Events that wait for one reader."""

FOLLOWED = 8
"""Replicas whose events are kept: those that are gone too, as one may come back and send them again."""


@dataclass(slots=True, eq=False)
class Reader:
    """Waits for new events; something is set when there are some, or by whoever has other news for it."""

    something: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: deque[pb.Event] = field(default_factory=deque)
    _dropped: bool = False

    def put(self, event: pb.Event) -> None:
        """Add an event; a reader that fell behind gets TooSlow instead."""
        if len(self._waiting) < WAITING:
            self._waiting.append(event)
        else:
            self._dropped = True
        self.something.set()

    def take(self) -> list[pb.Event]:
        """Return what waits; raises TooSlow."""
        if self._dropped:
            raise TooSlow("events came faster than they were read: watch again")
        self.something.clear()
        events = list(self._waiting)
        self._waiting.clear()
        return events


@dataclass(slots=True)
class _Followed:
    """Events of one process of another replica: the last ones, and the number of the last."""

    instance: str
    number: int = 0
    kept: deque[pb.Event] = field(default_factory=lambda: deque(maxlen=KEPT))


class Events:
    """The recent events of this replica and of those that it follows."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._theirs: Recent[str, _Followed] = Recent(FOLLOWED)
        self._readers: set[Reader] = set()
        recorder.subscribe(self._happened)

    def put(self, replica: str, instance: str, number: int, event: pb.Event) -> None:
        """Take an event of another replica, unless it is known."""
        followed = self._theirs.get(replica)
        if followed is None or followed.instance != instance:
            followed = self._theirs[replica] = _Followed(instance)
        if number > followed.number:
            followed.number = number
            followed.kept.append(event)
            self._deliver(event)

    def recent(self, vnode: str = "") -> list[pb.Event]:
        """Return the events that are kept, of one VNode or of all, the oldest first."""
        own = (codec.event(each) for each in self._recorder.recent() if vnode in ("", each.vnode))
        theirs = (e for followed in self._theirs.values() for e in followed.kept if vnode in ("", e.vnode))
        return sorted((*own, *theirs), key=lambda event: (event.time.seconds, event.time.nanos))

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Have new events wait for a reader as long as the context lasts."""
        reader = Reader()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def nudge(self) -> None:
        """Have all readers look at what else may have changed."""
        for reader in self._readers:
            reader.something.set()

    def _happened(self, happening: Happening) -> None:
        if self._readers:
            self._deliver(codec.event(happening))

    def _deliver(self, event: pb.Event) -> None:
        for reader in self._readers:
            reader.put(event)
