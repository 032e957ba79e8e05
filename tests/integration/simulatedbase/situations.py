"""The state in which a simulated base gives a recorded reply, derived from the recording."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulatedbase.java import Flaw, Jar
from simulatedbase.profile import RuntimeVersion

_REPEATED = re.compile(r"Biz: (?P<module>\S+) has been installed or registered\.")
_UNIQUE = re.compile(r"Child name \[(?P<path>[^]]*)\] is not unique")
_FLAWS = {
    "java.io.FileNotFoundException": Flaw.NOT_FOUND,
    "java.util.zip.ZipException": Flaw.NOT_A_ZIP,
    "Biz Name must not be empty": Flaw.NO_MODULE,
}


@dataclass
class Situation:
    """A base: what is behind URLs, what fails, and modules that were installed, are starting, or were switched to."""

    runtime: RuntimeVersion = RuntimeVersion.V1_4_2
    name: str = "shop-base"
    jars: dict[str, Jar] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    installed: list[str] = field(default_factory=list)
    starting: list[str] = field(default_factory=list)
    switched: list[str] = field(default_factory=list)


def url_of(module: str) -> str:
    """Return the URL of a module that was there before."""
    return f"http://repo.example/before.jar#{module}"


def situation(runtime: str, command: str, asked: Mapping[str, Any], reply: Any) -> Situation:
    """Return the situation in which a base answers a command with a reply of the recorded shape."""
    base = Situation(RuntimeVersion(runtime))
    data: Any = (reply or {}).get("data")
    match command:
        case "queryAllBiz":
            _listed(base, data or [])
        case "health":
            health = data["healthData"]
            master = health["masterBizInfo"]
            base.name = master["bizName"]
            _listed(base, [entry for entry in health["bizListInfo"] if entry["bizName"] != base.name])
        case "installBiz":
            _install(base, asked, reply)
        case "batchInstallBiz":
            for item in asked.get("bizList", []):
                _install(base, item, data["bizUrlToResponse"][item["bizUrl"]])
        case "uninstallBiz" if reply["code"] == "SUCCESS":
            base.installed.append(_named(asked))
        case "switchBiz" if reply["code"] == "SUCCESS":
            base.installed += [f"{asked['bizName']}:before", _named(asked)]
    return base


def simple(entries: list[Any]) -> Situation:
    """Return the situation in which a base reports a list of the short form, which MQTT uses."""
    base = Situation()
    _listed(base, [{f"biz{key.capitalize()}": value for key, value in entry.items()} for entry in entries])
    return base


def _listed(base: Situation, entries: list[Any]) -> None:
    """Bring modules into the states in which they are listed; a version that was switched to was installed last."""

    def rank(entry: Any) -> tuple[bool, bool]:
        switched = any(record["reason"] == "Switched" for record in entry.get("bizStateRecords", []))
        serves = entry["bizState"] == "activated"
        return (serves, True) if switched else (not serves, False)

    for entry in sorted(entries, key=rank):
        module = _named(entry)
        if entry["bizState"] == "resolved":
            base.starting.append(module)
            continue
        base.installed.append(module)
        if entry["bizState"] == "activated" and rank(entry)[1]:
            base.switched.append(module)


def _install(base: Situation, asked: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
    answer = reply.get("data") or reply
    text = f"{reply.get('message')}\n{reply.get('errorStackTrace')}\n{answer.get('message')}"
    jar = Jar(path=f"path-of-{_named(asked)}") if "bizUrl" in asked else None
    for info in answer.get("bizInfos", []):
        jar = Jar(info["bizName"], info["bizVersion"], info["webContextPath"])
        if info["bizState"].lower() == "deactivated":
            base.installed.append(f"{info['bizName']}:before")
    if repeated := _REPEATED.search(text):
        base.installed.append(repeated["module"])
        jar = Jar(*repeated["module"].split(":"))
    elif unique := _UNIQUE.search(text):
        base.installed.append(f"{asked['bizName']}:before:{unique['path']}")
        jar = Jar(path=unique["path"])
    elif flaw := next(_flaws(text), None):
        jar = Jar(flaw=flaw)
    elif "InvocationTargetException" in text or text.endswith("internal exception: null"):
        base.failing.add(asked["bizName"])
    if jar is not None:
        base.jars[asked["bizUrl"]] = jar


def _flaws(text: str) -> Iterator[Flaw]:
    return (flaw for mark, flaw in _FLAWS.items() if mark in text)


def _named(entry: Mapping[str, Any]) -> str:
    return f"{entry['bizName']}:{entry['bizVersion']}"
