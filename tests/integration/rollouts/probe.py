"""Checks of the records of a rollout, as pure functions from records to complaints."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.everything import container, ready
from tests.servers.kubeapi import Json
from tests.watching import Change


class Incomplete(Exception):
    """A record has a hole, so that no statement is possible."""


def gaps(histories: Mapping[str, Sequence[Json]], module: str, *, until: float) -> list[str]:
    """Name each stretch of time in which a base had no ACTIVATED version of a module that it once had.

    histories are what Bases.history returns; until, in monotonic seconds, is when they were read. Raises Incomplete.
    """
    found = []
    for base, moments in histories.items():
        if [moment["number"] for moment in moments] != list(range(1, len(moments) + 1)):
            raise Incomplete(f"{base}: moments of its history are missing")
        served = False
        ends = [moment["at"] for moment in moments[1:]] + [until]
        for moment, end in zip(moments, ends, strict=True):
            if any(key.partition(":")[0] == module and state == "activated" for key, state in _inside(moment)):
                served = True
            elif served:
                inside = ", ".join(f"{key} {state}" for key, state in _inside(moment)) or "nothing"
                found.append(f"{base}: none of {module} active for {end - moment['at']:.3f} s; inside: {inside}")
        if not served:
            found.append(f"{base}: {module} was never active")
    return found


def _inside(moment: Json) -> Iterable[tuple[str, str]]:
    modules: dict[str, str] = moment["modules"]
    return modules.items()


@dataclass(slots=True)
class Handover:
    """supersessions is how often an older Pod gave way on a base; complaints is what was out of order."""

    supersessions: int = 0
    complaints: list[str] = field(default_factory=list)


def handover(changes: Sequence[Change]) -> Handover:
    """Follow Ready and Superseded of the Pods of one module, each on its Node, in the order of their changes."""
    result = Handover()
    serving: dict[str, dict[str, Json]] = defaultdict(dict)
    for change in changes:
        pod = change.obj
        node, name = pod["spec"].get("nodeName", ""), pod["metadata"]["name"]
        there = serving[node]
        if change.kind == "DELETED" or not ready(pod):
            if name in there:
                _lost(result, node, change)
            there.pop(name, None)
        else:
            result.complaints += [f"{node}: {name} turned Ready while {other} was" for other in there if other != name]
            there[name] = pod
    return result


def _lost(result: Handover, node: str, change: Change) -> None:
    name = change.obj["metadata"]["name"]
    reason = container(change.obj, "waiting").get("reason", "")
    if change.kind == "DELETED" or "deletionTimestamp" in change.obj["metadata"]:
        result.complaints.append(f"{node}: {name} was removed while it was Ready")
    elif reason != "Superseded":
        result.complaints.append(f"{node}: {name} turned not Ready for the reason {reason!r}")
    else:
        result.supersessions += 1
