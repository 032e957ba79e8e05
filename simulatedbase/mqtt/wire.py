"""Topics and payloads of a base over MQTT. Pure.

Every payload of a base is an envelope {"data", "publishTimestamp"}, those to a base are bare. Enums stand by their
names (ACTIVATED, INSTALL_FAILED) where HTTP has their texts, and null is written in lists of modules alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateways.arklet.fields import Json
from simulatedbase import fastjson
from simulatedbase.java import JavaError
from simulatedbase.profile import QUESTIONS
from simulatedbase.runtime import Biz

CHANGES = frozenset({"installBiz", "uninstallBiz"})
BATCH = "batchInstallBiz"
"""What a baseline is carried out as; no topic of a command leads to it."""

_REASONS = {"Uninstall Failed": "UN_INSTALL_FAILED"}
"""Names of enum values that are not their texts in upper case."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one base; env is in lower case."""

    env: str
    identity: str

    def own(self, kind: str) -> str:
        """Return a topic that the base publishes to, for example heart."""
        return f"koupleless_{self.env}/{self.identity}/base/{kind}"

    def subscriptions(self) -> tuple[str, str]:
        """Return what the base subscribes to: all commands, and the answer to its query."""
        return f"koupleless_{self.env}/{self.identity}/+", self.own("baseline")

    def command(self, topic: str) -> str | None:
        """Return the command that a topic asks for, None for one that is ignored over MQTT."""
        if topic == self.own("baseline"):
            return BATCH
        command = topic.rpartition("/")[2]
        return command if command in QUESTIONS | CHANGES else None


def envelope(value: object, now: int) -> bytes:
    """Return the payload for data; now is in epoch milliseconds."""
    return orjson.dumps({"data": value, "publishTimestamp": now})


def parameters(command: str, payload: bytes) -> Json | None:
    """Return the parameters in a payload, None for an empty one; a list of modules becomes bizList.

    Raises ValueError, which says what is wrong.
    """
    given = orjson.loads(payload) if payload.strip() else None
    if command == BATCH:
        if given is not None and not (isinstance(given, list) and all(isinstance(item, dict) for item in given)):
            raise ValueError("not a list of modules")
        return {"bizList": given}
    if given is not None and not isinstance(given, dict):
        raise ValueError("not an object")
    return given


def answer(command: str, given: Json | None, result: Json | JavaError, modules: Sequence[Biz]) -> tuple[str, object]:
    """Return own topic and data of the answer to a command."""
    if command == "queryAllBiz":
        return "simpleBiz", simple_biz(modules)
    reply = response(result)
    if command == "health":
        return "health", reply
    if command == BATCH:
        return "batchInstallBizResponse", {"response": reply, "command": BATCH}
    # The module is named as it was asked for, not as it is.
    name, version = (given or {}).get("bizName"), (given or {}).get("bizVersion")
    data = {"bizName": name, "response": reply, "command": command, "bizVersion": version}
    return "bizOperation", {key: value for key, value in data.items() if value is not None}


def simple_biz(modules: Sequence[Biz]) -> list[Json]:
    """Return what queryAllBiz reports: the state by its text, but by its name in the record of the last change."""
    return [
        {
            "latestStateRecord": by_name(fastjson.listed(biz)["bizStateRecords"][-1]),
            "name": biz.name,
            "state": biz.state.value,
            "version": biz.version,
        }
        for biz in modules
    ]


def response(result: Json | JavaError) -> Json:
    """Return an envelope of HTTP, or an exception, as the response that MQTT carries."""
    if isinstance(result, JavaError):
        return {"code": "FAILED", "data": {"code": "FAILED", "message": result.trace}, "message": result.reason}
    return {key: by_name(value) for key, value in result.items() if key != "baseIdentity"}


def by_name(value: Any) -> Any:
    """Return what HTTP reports of modules with every enum by its name."""
    if isinstance(value, list):
        return [by_name(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {key: by_name(item) for key, item in value.items()}
    if "bizState" in named:
        named["bizState"] = named["bizState"].upper()
    if "changeTime" in named:
        reason = named["reason"]
        named["reason"] = _REASONS.get(reason, reason.upper().replace(" ", "_"))
        named["state"] = named["state"].upper()
    return named
