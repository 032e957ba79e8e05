"""What was last sent of bases on a stream, so that what only repeats it costs little. Pure.

A module list that says the same travels as "unchanged". What says the same can wait, so that many such reports share a
message: a gRPC message costs both sides as much as twenty reports in it.
"""

from dataclasses import dataclass, field

from koupleless.tunnel.v1 import tunnel_pb2 as pb


@dataclass(slots=True)
class _Told:
    """What was sent of one base."""

    modules: pb.Modules
    heartbeat: pb.Heartbeat | None = None
    state: pb.BaseState.ValueType | None = None


@dataclass(slots=True)
class Repeated:
    """What was sent of each base that is polled."""

    _told: dict[str, _Told] = field(default_factory=dict)

    def can_wait(self, report: pb.Report) -> bool:
        """Return whether a report says of a base what was said before, and whether it does so is known."""
        told = self._told.get(report.base_id)
        if told is None:
            return False
        match report.WhichOneof("fact"):
            case "heartbeat":
                return told.heartbeat == report.heartbeat
            case "health":
                return told.state == report.health.state
            case "modules":
                return told.modules == report.modules
        return False

    def sent(self, report: pb.Report) -> pb.Report:
        """Take note of a report that is sent now; return it, or one that says that nothing changed."""
        told = self._told.get(report.base_id)
        match report.WhichOneof("fact"):
            case "modules" if report.modules.epoch:
                if told is not None and told.modules == report.modules:
                    unchanged = pb.Modules(complete=True, unchanged=True, epoch=report.modules.epoch)
                    return pb.Report(base_id=report.base_id, observed_at=report.observed_at, modules=unchanged)
                if told is None:
                    self._told[report.base_id] = _Told(report.modules)
                else:
                    told.modules = report.modules
            case "heartbeat" if told is not None:
                told.heartbeat = report.heartbeat
            case "health" if told is not None:
                told.state = report.health.state
            case "poll_failed":
                self.forget(report.base_id)
        return report

    def forget(self, base: str) -> None:
        """Send whatever comes next of a base in full, and at once."""
        self._told.pop(base, None)

    def clear(self) -> None:
        """Begin a stream."""
        self._told.clear()
