"""Events of all replicas, each once, for those who read them."""

from collections import deque
from dataclasses import dataclass
from itertools import islice

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb

from controlplane.app.changes import Changes
from controlplane.app.events import KEPT, Happening, Recorder
from controlplane.rpc.refusals import TooSlow
from controlplane.rpc.tooling import codec
from service.limits import Recent

WAITING = 5000
"""Events by which a reader may be behind."""

FOLLOWED = 8
"""Replicas whose events are kept: those that are gone too, as one may come back and send them again."""


@dataclass(slots=True)
class _Own:
    """An event of this replica. Its message is made once somebody reads it: mostly nobody does."""

    happening: Happening
    _event: pb.Event | None = None

    @property
    def event(self) -> pb.Event:
        if self._event is None:
            self._event = codec.event(self.happening)
        return self._event


class Events:
    """The recent events of this replica and of those that it follows; each one nudges whoever waits for changes."""

    def __init__(self, recorder: Recorder, changed: Changes[str]) -> None:
        self.came = 0
        """How many came here so far."""
        self._changed = changed
        self._own: deque[_Own] = deque(map(_Own, recorder.recent()), maxlen=KEPT)
        self._theirs: Recent[str, deque[rpb.ReplicaEvent]] = Recent(FOLLOWED)
        self._newest: deque[_Own | rpb.ReplicaEvent] = deque(maxlen=WAITING)
        self._kept: list[pb.Event] | None = None
        """All that are kept, the oldest first; None where one came since."""
        recorder.subscribe(self._take)

    def put(self, replica: str, event: rpb.ReplicaEvent) -> None:
        """Take an event of another replica, unless it is known; it ends those of an earlier process of that name."""
        kept = self._theirs.get(replica)
        if kept is None or kept[-1].instance != event.instance:
            kept = self._theirs[replica] = deque(maxlen=KEPT)
        elif event.number <= kept[-1].number:
            return
        kept.append(event)
        self._add(event)

    def recent(self, vnode: str = "") -> list[pb.Event]:
        """Return the events that are kept, of one VNode or of all, the oldest first."""
        if self._kept is None:
            own = (one.event for one in self._own)
            theirs = (one.event for kept in self._theirs.values() for one in kept)
            self._kept = sorted((*own, *theirs), key=lambda event: (event.time.seconds, event.time.nanos))
        return [event for event in self._kept if vnode in ("", event.vnode)]

    def since(self, came: int) -> list[pb.Event]:
        """Return the events after the first so many that came; raises TooSlow when these are not kept any more."""
        skipped = len(self._newest) - (self.came - came)
        if skipped < 0:
            raise TooSlow("events came faster than they were read: watch again")
        return [each.event for each in islice(self._newest, skipped, None)]

    def _take(self, happening: Happening) -> None:
        own = _Own(happening)
        self._own.append(own)
        self._add(own)

    def _add(self, event: _Own | rpb.ReplicaEvent) -> None:
        self.came += 1
        self._kept = None
        self._newest.append(event)
        self._changed.nudge()
