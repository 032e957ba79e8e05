"""Reports: what went wrong, or was done, in the fields that the Go Module Controller V2 uses.

The same fields go to hooks, to the tracker's file and links, and come in at /log. Times are seconds on the monotonic
clock unless a name says otherwise.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

SUCCESS, FAIL = "success", "fail"

MODULES, BASES, REPLICA = "vpod_deploy", "vnode", "controller"
"""Scenes. The original knows the first only."""

DONE = "00000"
TIMED_OUT = "00001"
START_TIMED_OUT = "00002"
CLUSTER_FAILED = "00003"
OTHER = "00009"
START_FAILED = "01002"
STOP_FAILED = "01003"
CLASH = "02001"
"""Codes. 00009 and 02001 are not the original's."""

SAME_WITHIN = 600.0
"""Seconds within which the same thing is sent once, and its repetitions are counted."""
GATHER_ABOVE = 20
"""Waiting reports of a slow hook above which those of one kind are sent as one."""
_NAMED = 5
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that break a line, turn its direction, steer a terminal, or cannot be encoded."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report; key is equal for repetitions of one thing, milliseconds is how long it took, 0 when not known."""

    key: str
    scene: str
    event: str
    result: str
    message: str
    code: str
    labels: Mapping[str, str]
    trace_id: str = ""
    milliseconds: int = 0

    @property
    def failed(self) -> bool:
        """It reports a failure."""
        return self.result != SUCCESS

    def fields(self) -> dict[str, object]:
        """Return it as the original's JSON has it."""
        took = {"timeUsed": self.milliseconds} if self.milliseconds else {}
        return {
            "traceID": self.trace_id,
            "scene": self.scene,
            "event": self.event,
            **took,
            "result": self.result,
            "message": self.message,
            "code": self.code,
            "labels": dict(self.labels),
        }

    def line(self, stamp: str) -> str:
        """Return its line in events.log; stamp is the local time, 2006-01-02 15:04:05.000."""
        labels = json.dumps(dict(self.labels), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        parts = (
            stamp,
            self.trace_id,
            self.scene,
            self.event,
            str(self.milliseconds),
            self.result,
            self.code,
            self.message,
            labels,
        )
        line = ", ".join(f"[{part}]" for part in parts)
        return f"{line if line.isprintable() else ''.join(map(_visible, line))}\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a reason is called in reports."""

    scene: str
    event: str
    code: str


_KINDS: Mapping[str, Kind] = {
    "ModuleInstalled": Kind(MODULES, "ContainerStart", DONE),
    "ModuleInstallFailed": Kind(MODULES, "ContainerStart", START_FAILED),
    "ModuleInstallUnanswered": Kind(MODULES, "ContainerStart", START_TIMED_OUT),
    "BaselineInstallFailed": Kind(MODULES, "ContainerStart", START_FAILED),
    "ModuleSwitched": Kind(MODULES, "ContainerSwitch", DONE),
    "ModuleSwitchFailed": Kind(MODULES, "ContainerSwitch", START_FAILED),
    "ModuleSwitchUnanswered": Kind(MODULES, "ContainerSwitch", START_TIMED_OUT),
    "ModuleUninstalled": Kind(MODULES, "ContainerShutdown", DONE),
    "ModuleUninstallFailed": Kind(MODULES, "ContainerShutdown", STOP_FAILED),
    "ModuleUninstallUnanswered": Kind(MODULES, "ContainerShutdown", TIMED_OUT),
    "PodUpdated": Kind(MODULES, "PodUpdate", DONE),
    "PodRemoved": Kind(MODULES, "PodDelete", DONE),
    "ModuleUninstallTimeout": Kind(MODULES, "PodDelete", TIMED_OUT),
    "PeerReplicasChanged": Kind(MODULES, "PeerDeploymentReplicaModify", DONE),
    "PeerReplicasNotChanged": Kind(MODULES, "PeerDeploymentReplicaModify", CLUSTER_FAILED),
    "BaseUnreachable": Kind(BASES, "BaseUnreachable", TIMED_OUT),
    "VNodeRemoved": Kind(BASES, "VNodeRemoved", TIMED_OUT),
    "GoodbyeRefused": Kind(BASES, "GoodbyeRefused", CLASH),
    "IdentityClash": Kind(BASES, "IdentityClash", CLASH),
    "LeaseLost": Kind(BASES, "LeaseLost", CLUSTER_FAILED),
    "LeasesNotRenewed": Kind(REPLICA, "LeasesNotRenewed", CLUSTER_FAILED),
    "ReplicaCutOff": Kind(REPLICA, "ReplicaCutOff", CLUSTER_FAILED),
    "RemovalsFrozen": Kind(REPLICA, "RemovalsFrozen", TIMED_OUT),
    "CommandsFail": Kind(REPLICA, "CommandsFail", TIMED_OUT),
}


def classify(reason: str, *, warning: bool, module: bool, vnode: bool) -> Kind | None:
    """Return what a reason is called in reports; None when it is not reported.

    Every warning is one, known here or not; of the rest only what was done to modules.
    """
    kind = _KINDS.get(reason)
    if not warning:
        return kind if kind is not None and kind.code == DONE else None
    if kind is None:
        return Kind(MODULES if module else BASES if vnode else REPLICA, reason, OTHER)
    return replace(kind, code=OTHER) if kind.code == DONE else kind


@dataclass(frozen=True, slots=True)
class Sent:
    """A report that was sent at a time, the last one like it since then, and how many there were."""

    at: float
    last: Report
    repeats: int = 0

    def again(self, report: Report) -> Self:
        """Count a repetition."""
        return replace(self, last=report, repeats=self.repeats + 1)

    def summary(self) -> Report:
        """Return the report of the repetitions when the time is over."""
        times = "once more" if self.repeats == 1 else f"{self.repeats} times more"
        return replace(self.last, message=f"{self.last.message} ({times} within {SAME_WITHIN / 60:.0f} minutes)")


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most so many in so many seconds."""

    most: int
    seconds: float

    def wait(self, before: Sequence[float], now: float) -> float:
        """Return the seconds until one more is allowed; before holds when the last ones were, oldest first."""
        if len(before) < self.most:
            return 0.0
        return max(before[-self.most] + self.seconds - now, 0.0)


def gathered(first: Report, others: Sequence[Report]) -> Report:
    """Return one report for several of one kind."""
    if not others:
        return first
    named = ", ".join(dict.fromkeys(_about(report) for report in others[:_NAMED]))
    more = ", ..." if len(others) > _NAMED else ""
    return replace(first, message=f"{first.message} (and {len(others)} more like it: {named}{more})")


def alike(one: Report, other: Report) -> bool:
    """Return whether two reports are of one kind."""
    return (one.scene, one.event, one.result, one.code) == (other.scene, other.event, other.result, other.code)


def _visible(char: str) -> str:
    return json.dumps(char)[1:-1] if unicodedata.category(char) in _HIDDEN else char


def _about(report: Report) -> str:
    names = [report.labels[name] for name in ("deployment", "pod", "module", "base") if name in report.labels]
    return " ".join(names) or report.event
