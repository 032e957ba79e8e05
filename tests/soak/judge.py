"""Checks of what must hold during and after a soak, as pure functions from records to complaints."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.everything import ready
from tests.servers.kubeapi import Json
from tests.watching import Change

DEAD_AFTER = 60.0
SLACK = 3.0
"""Seconds by which records of different programs may differ."""


@dataclass(slots=True)
class Down:
    """A base could not be reached from begin to end, monotonic; announced: it had deactivated itself."""

    begin: float
    announced: bool
    end: float = math.inf


def disagreements(pods: Iterable[Json], inside: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name the differences between the cluster and the bases; inside is state by name:version, by Node name."""
    found = []
    wanted: dict[str, set[str]] = {node: set() for node in inside}
    for pod in pods:
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
        if "deletionTimestamp" in pod["metadata"]:
            found.append(f"Pod {name} is still being deleted")
        elif not ready(pod):
            waiting = [status.get("state", {}).get("waiting") for status in pod["status"].get("containerStatuses", [])]
            found.append(f"Pod {name} on {node or 'no Node'} is not Ready: {waiting}")
        if node in wanted:
            wanted[node] |= keys(pod)
        elif node:
            found.append(f"Pod {name} is on {node}, which is none of the bases")
    for node, modules in inside.items():
        found += [f"{key} on {node} has no Pod" for key in modules.keys() - wanted[node]]
        found += [f"{key} is not on {node}" for key in wanted[node] - modules.keys()]
        found += [f"{key} on {node} is {state}" for key, state in modules.items() if state != "activated"]
    return sorted(found)


def keys(pod: Json) -> set[str]:
    """Return name:version of the modules of a Pod; without BIZ_VERSION the name of the jar has the version."""
    found = set()
    for container in pod["spec"]["containers"]:
        named = {env["name"]: env["value"] for env in container.get("env", ())}
        of_jar = container.get("image", "").rpartition("-")[2].removesuffix(".jar")
        found.add(f"{container['name']}:{named.get('BIZ_VERSION', of_jar)}")
    return found


def missing(wanted: Mapping[str, str], pods: Iterable[Json], removed: Iterable[str]) -> list[str]:
    """Name bare Pods that are gone although no user deleted them; wanted is Node by name.

    Kubernetes itself removes Pods whose Node was removed.
    """
    there = {pod["metadata"]["name"] for pod in pods}
    gone = set(removed)
    return [f"Pod {name} on {node} is gone" for name, node in wanted.items() if name not in there and node not in gone]


def double_installs(histories: Mapping[str, Sequence[Json]]) -> list[str]:
    """Name installs that reached a base while it installed the same module."""
    found = []
    for base, moments in histories.items():
        if [moment["number"] for moment in moments] != list(range(1, len(moments) + 1)):
            found.append(f"{base}: moments of its history are missing")
        found += [f"{base} at {moment['at']:.3f}: {moment['note']}" for moment in moments if _double(moment)]
    return found


def _double(moment: Json) -> bool:
    note, modules = moment["note"], moment["modules"]
    command, _, rest = note.partition(" ")
    if command not in ("installBiz", "batchInstallBiz"):
        return False
    key, _, answer = rest.rpartition(": ")
    under_way = answer in ("installBiz under way", "batchInstallBiz under way")
    return under_way or (answer == "REPEAT_BIZ" and modules.get(key) == "resolved")


def repeats(histories: Mapping[str, Sequence[Json]]) -> list[str]:
    """Name installs of modules that were there: harmless, but the base fetched the jar for nothing."""
    return [
        f"{base} at {moment['at']:.3f}: {moment['note']}"
        for base, moments in histories.items()
        for moment in moments
        if moment["note"].endswith("REPEAT_BIZ")
    ]


def removed_alive(nodes: Sequence[Change], downs: Mapping[str, Sequence[Down]]) -> list[str]:
    """Name removals of Nodes whose base could be reached; downs are by Node."""
    found = []
    for change in nodes:
        name = change.obj["metadata"]["name"]
        if change.kind == "DELETED" and not any(_allows(down, change) for down in downs.get(name, ())):
            found.append(f"{name} was removed at {change.at:.3f}, but its base was alive")
    return found


def _allows(down: Down, change: Change) -> bool:
    since = down.begin if down.announced else down.begin + DEAD_AFTER - SLACK
    return since <= change.at and change.since <= down.end + SLACK


GRPC_ABORT = "Failed sending error status from server"
"""What gRPC itself logs, with a traceback, when a client ends while its call is refused."""


def defects(logs: Mapping[str, Iterable[str]]) -> list[str]:
    """Name lines of logs, by program, that show a defect of ours."""
    found = []
    for name, lines in logs.items():
        before = ""
        for line in lines:
            if "defect" in line or ("Traceback" in line and GRPC_ABORT not in before):
                found.append(f"{name}: {line.strip()[:300]}")
            before = line
    return found
