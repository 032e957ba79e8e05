"""Events of all replicas, each once, for those who read them."""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

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
class _Followed:
    """Events of one process of another replica: the last ones, and the number of the last."""

    instance: str
    number: int = 0
    kept: deque[pb.Event] = field(default_factory=lambda: deque(maxlen=KEPT))


class Events:
    """The recent events of this replica and of those that it follows; each one nudges whoever waits for changes."""

    def __init__(self, recorder: Recorder, changed: Changes[str]) -> None:
        self.came = 0
        """How many came here so far."""
        self._recorder = recorder
        self._changed = changed
        self._theirs: Recent[str, _Followed] = Recent(FOLLOWED)
        self._newest: deque[pb.Event] = deque(maxlen=WAITING)
        recorder.subscribe(self._happened)

    def put(self, replica: str, instance: str, number: int, event: pb.Event) -> None:
        """Take an event of another replica, unless it is known."""
        followed = self._theirs.get(replica)
        if followed is None or followed.instance != instance:
            followed = self._theirs[replica] = _Followed(instance)
        if number > followed.number:
            followed.number = number
            followed.kept.append(event)
            self._add(event)

    def recent(self, vnode: str = "") -> list[pb.Event]:
        """Return the events that are kept, of one VNode or of all, the oldest first."""
        own = (codec.event(each) for each in self._recorder.recent() if vnode in ("", each.vnode))
        theirs = (e for followed in self._theirs.values() for e in followed.kept if vnode in ("", e.vnode))
        return sorted((*own, *theirs), key=lambda event: (event.time.seconds, event.time.nanos))

    def since(self, came: int) -> list[pb.Event]:
        """Return the events after the first so many that came; raises TooSlow when these are not kept any more."""
        skipped = len(self._newest) - (self.came - came)
        if skipped < 0:
            raise TooSlow("events came faster than they were read: watch again")
        return list(islice(self._newest, skipped, None))

    def _happened(self, happening: Happening) -> None:
        self._add(codec.event(happening))

    def _add(self, event: pb.Event) -> None:
        self.came += 1
        self._newest.append(event)
        self._changed.nudge()
