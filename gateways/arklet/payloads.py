"""What bases say, from bytes to facts: tolerant of every runtime version, never guessing.

Bases differ in the case of enum text, in whether they write ordinals, in which
members they leave out; all of that is read alike. Beyond that a body is either
understood as a whole or refused with Malformed: a module list is never read in
part, since what is missing in it counts as not installed.
"""

from __future__ import annotations

import re
from typing import Any

from gateways.arklet.facts import (
    BaseState,
    BatchReply,
    ClientCode,
    Health,
    Heartbeat,
    Metadata,
    Metaspace,
    Module,
    ModuleState,
    Reply,
    ReplyCode,
)
from gateways.arklet.fields import (
    Json,
    Malformed,
    enum,
    first_object,
    kind,
    lenient_integer,
    lenient_text,
    optional_object,
    required_object,
    required_text,
    text,
)
from gateways.arklet.text import NAME_LIMIT, clip, clip_message, clip_trace, is_trace

__all__ = [
    "Malformed",
    "Negative",
    "batch_reply",
    "batch_reply_of",
    "health",
    "health_of",
    "heartbeat",
    "heartbeat_of",
    "help_commands",
    "metadata",
    "metadata_of",
    "modules",
    "modules_of",
    "reply",
    "reply_of",
    "simple_modules",
]

IDENTITY_LIMIT = 1024
"""Longest identity, in characters, that is understood at all; the gateway demands more of it."""

URL_LIMIT = 8192
"""Longest module URL in a batch reply, in characters."""

MODULE_LIMIT = 4096
"""Most modules of a base, and most items of a batch; a longer list is Malformed."""

_WHOLE = re.compile(r"-?[0-9]{1,9}")

_EMBEDDED_MAIN = "embed main"
"""mainClass of the base's own entry where it is embedded in its application: no module."""

_LATEST_TIME = 253_402_300_799_999
"""Last millisecond of the year 9999, the latest that a protobuf Timestamp can hold."""

# In the order of the Java enums, since some JSON libraries on bases write ordinals.
_REPLY_CODES = (
    ReplyCode.SUCCESS,
    ReplyCode.FAILED,
    ReplyCode.CMD_NOT_FOUND,
    ReplyCode.CMD_PROCESS_INTERNAL_ERROR,
)
_CLIENT_CODES = (
    ClientCode.SUCCESS,
    ClientCode.FAILED,
    ClientCode.REPEAT_BIZ,
    ClientCode.NOT_FOUND_BIZ,
    ClientCode.ILLEGAL_STATE_BIZ,
)
_MODULE_STATES = (
    ModuleState.UNRESOLVED,
    ModuleState.RESOLVED,
    ModuleState.ACTIVATED,
    ModuleState.DEACTIVATED,
    ModuleState.BROKEN,
    ModuleState.STOPPED,
)
_BASE_STATES = {"ACTIVATED": BaseState.ACTIVATED, "DEACTIVATED": BaseState.DEACTIVATED}


class Negative(Exception):
    """A well-formed answer to a question, but not SUCCESS."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(f"{answer.code.value}: {answer.message}" if answer.message else answer.code.value)
        self.reply = answer


def heartbeat(body: bytes) -> Heartbeat:
    """Read the body of a heartbeat over HTTP; raises Malformed.

    The identity is not judged. A port that is missing, null, 0 or an empty text is 0.
    """
    beat = first_object(body)
    return heartbeat_of(beat, _port(beat))


def heartbeat_of(beat: Json, port: int = 0) -> Heartbeat:
    """Read a heartbeat out of an object, but for its port, which means nothing over MQTT; raises Malformed."""
    return Heartbeat(
        metadata=_metadata(required_object(beat, "baseMetadata"), "baseMetadata."),
        host_name=text(beat, "localHostName", "localHostName"),
        ip=text(beat, "localIP", "localIP"),
        port=port,
        state=_base_state(text(beat, "state", "state")),
    )


def metadata(body: bytes) -> Metadata:
    """Read the body of a baseline query; raises Malformed."""
    return metadata_of(first_object(body))


def metadata_of(told: Json) -> Metadata:
    """Read a baseline query out of an object; raises Malformed."""
    return _metadata(told, "")


def reply(body: bytes) -> Reply:
    """Read the answer to installBiz, uninstallBiz or switchBiz; raises Malformed."""
    return reply_of(first_object(body))


def reply_of(envelope: Json) -> Reply:
    """Read the answer to a command out of an object; raises Malformed."""
    return _reply(_coded(envelope))


def batch_reply(body: bytes) -> BatchReply:
    """Read the answer to batchInstallBiz; raises Malformed. Without a verdict for each URL items is empty."""
    return batch_reply_of(first_object(body))


def batch_reply_of(envelope: Json) -> BatchReply:
    """Read the answer to batchInstallBiz out of an object; raises Malformed."""
    _coded(envelope)
    answers = optional_object(optional_object(envelope, "data"), "bizUrlToResponse")
    if len(answers) > MODULE_LIMIT:
        raise Malformed(f"data.bizUrlToResponse: more than {MODULE_LIMIT} items")
    items = []
    for url, answer in answers.items():
        if not url or len(url) > URL_LIMIT or not isinstance(answer, dict):
            raise Malformed(f"data.bizUrlToResponse: {kind(answer)} under a URL of {len(url)} characters")
        items.append((url, _client_reply(answer)))
    return BatchReply(_reply(envelope), tuple(items))


def modules(body: bytes) -> tuple[Module, ...]:
    """Read the answer to queryAllBiz, the complete list of modules; raises Malformed or Negative."""
    return modules_of(first_object(body))


def modules_of(envelope: Json) -> tuple[Module, ...]:
    """Read the answer to queryAllBiz out of an object; raises Malformed or Negative."""
    listed = _answer(envelope).get("data")
    if not isinstance(listed, list):
        raise Malformed(f"data: expected a list, got {kind(listed)}")
    if len(listed) > MODULE_LIMIT:
        raise Malformed(f"data: more than {MODULE_LIMIT} modules")
    return tuple(
        _module(entry, f"data[{index}]")
        for index, entry in enumerate(listed)
        if not (isinstance(entry, dict) and entry.get("mainClass") == _EMBEDDED_MAIN)
    )


def simple_modules(listed: Any) -> tuple[Module, ...]:
    """Read the short module list of the MQTT tunnel (simpleBiz); raises Malformed."""
    if not isinstance(listed, list):
        raise Malformed(f"data: expected a list, got {kind(listed)}")
    if len(listed) > MODULE_LIMIT:
        raise Malformed(f"data: more than {MODULE_LIMIT} modules")
    return tuple(_simple_module(entry, f"data[{index}]") for index, entry in enumerate(listed))


def health(body: bytes) -> Health:
    """Read the answer to health; raises Malformed or Negative.

    Bases may leave out any part of it or give it in a wrong type, which is no
    news: the fact then has UNSPECIFIED, None or an empty text in its place.
    """
    return health_of(first_object(body))


def health_of(envelope: Json) -> Health:
    """Read the answer to health out of an object; raises Malformed or Negative."""
    data = optional_object(optional_object(_answer(envelope), "data"), "healthData")
    jvm = optional_object(data, "jvm")
    return Health(
        state=_master_state(optional_object(data, "masterBizInfo").get("bizState")),
        metaspace=_metaspace(jvm),
        java_version=clip(lenient_text(jvm, "java version"), NAME_LIMIT),
    )


def help_commands(body: bytes) -> frozenset[str]:
    """Read the answer to help: the names of the commands that the base knows; raises Malformed or Negative."""
    listed = _answer(first_object(body)).get("data")
    if not isinstance(listed, list):
        raise Malformed(f"data: expected a list, got {kind(listed)}")
    names = (lenient_text(entry, "id") for entry in listed[:MODULE_LIMIT] if isinstance(entry, dict))
    return frozenset(name for name in names if 0 < len(name) <= NAME_LIMIT)


def _metadata(told: Json, path: str) -> Metadata:
    return Metadata(
        identity=required_text(told, "identity", f"{path}identity", IDENTITY_LIMIT),
        name=text(told, "name", f"{path}name"),
        version=text(told, "version", f"{path}version"),
        cluster_name=text(told, "clusterName", f"{path}clusterName"),
    )


def _port(beat: Json) -> int:
    """Read a port, as a number or as text; JSON libraries on bases write both."""
    told = beat.get("port")
    if told is None or told == "":
        return 0
    if (isinstance(told, str) and _WHOLE.fullmatch(told)) or (isinstance(told, float) and told.is_integer()):
        port = int(told)
    elif isinstance(told, int) and not isinstance(told, bool):
        port = told
    else:
        raise Malformed(f"port: expected a whole number, got {kind(told)}")
    if not -1 <= port <= 65535:
        raise Malformed(f"port: {port} is not within -1 to 65535")
    return port


def _base_state(told: str) -> BaseState:
    if not told:
        return BaseState.UNSPECIFIED
    return _BASE_STATES.get(told.upper(), BaseState.UNKNOWN)


def _master_state(told: Any) -> BaseState:
    if told is None or told == "":
        return BaseState.UNSPECIFIED
    state = enum(told, _MODULE_STATES, ModuleState.UNSPECIFIED)
    return _BASE_STATES.get(state.name, BaseState.UNKNOWN)


def _coded(envelope: Json) -> Json:
    if envelope.get("code") is None:
        raise Malformed("code: missing")
    return envelope


def _answer(envelope: Json) -> Json:
    answer = _reply(_coded(envelope))
    if answer.code is not ReplyCode.SUCCESS:
        raise Negative(answer)
    return envelope


def _reply(envelope: Json) -> Reply:
    """Read outer and inner answer: the inner message says more, unless it is a stack trace (as over MQTT)."""
    inner = _client_reply(optional_object(envelope, "data"))
    outer = lenient_text(envelope, "message")
    trace = lenient_text(envelope, "errorStackTrace")
    return Reply(
        code=enum(envelope.get("code"), _REPLY_CODES, ReplyCode.UNSPECIFIED),
        client_code=inner.client_code,
        message=inner.message or clip_message(outer),
        stack_trace=clip_trace(trace) if trace else inner.stack_trace,
        modules=inner.modules,
    )


def _client_reply(told: Json) -> Reply:
    """Read a ClientResponse of sofa-ark; the outer code follows from the inner one."""
    code = enum(told.get("code"), _CLIENT_CODES, ClientCode.UNSPECIFIED)
    message = lenient_text(told, "message")
    infos = told.get("bizInfos")
    if code is ClientCode.UNSPECIFIED:
        outer = ReplyCode.UNSPECIFIED
    else:
        outer = ReplyCode.SUCCESS if code is ClientCode.SUCCESS else ReplyCode.FAILED
    return Reply(
        code=outer,
        client_code=code,
        message="" if is_trace(message) else clip_message(message),
        stack_trace=clip_trace(message) if is_trace(message) else "",
        modules=_installed(infos) if isinstance(infos, list) else (),
    )


def _installed(infos: list[Any]) -> tuple[Module, ...]:
    """Read bizInfos of a reply, where an entry that cannot be read only means less to tell."""
    installed = []
    for info in infos[:MODULE_LIMIT]:
        try:
            installed.append(_module(info, "data.bizInfos"))
        except Malformed:
            continue
    return tuple(installed)


def _module(entry: Any, path: str) -> Module:
    if not isinstance(entry, dict):
        raise Malformed(f"{path}: expected an object, got {kind(entry)}")
    return _told_module(entry, ("bizName", "bizVersion", "bizState"), _latest(entry.get("bizStateRecords")), path)


def _simple_module(entry: Any, path: str) -> Module:
    if not isinstance(entry, dict):
        raise Malformed(f"{path}: expected an object, got {kind(entry)}")
    return _told_module(entry, ("name", "version", "state"), optional_object(entry, "latestStateRecord"), path)


def _told_module(entry: Json, keys: tuple[str, str, str], record: Json, path: str) -> Module:
    name, version, state = keys
    changed_at = lenient_integer(record, "changeTime")
    return Module(
        name=required_text(entry, name, f"{path}.{name}", NAME_LIMIT),
        version=required_text(entry, version, f"{path}.{version}", NAME_LIMIT),
        state=enum(entry.get(state), _MODULE_STATES, ModuleState.UNSPECIFIED),
        changed_at=changed_at if changed_at is not None and 0 <= changed_at <= _LATEST_TIME else None,
        reason=clip(lenient_text(record, "reason"), NAME_LIMIT),
        message=clip_message(lenient_text(record, "message")),
    )


def _latest(records: Any) -> Json:
    """Return the record with the largest changeTime, of equal ones the last; older bases write only ``{}``."""
    latest: Json = {}
    latest_time = -1
    for record in records if isinstance(records, list) else ():
        if isinstance(record, dict):
            time = lenient_integer(record, "changeTime")
            if (time if time is not None else -1) >= latest_time:
                latest, latest_time = record, time if time is not None else -1
    return latest


def _metaspace(jvm: Json) -> Metaspace | None:
    """Read the three figures in bytes; a limit of -1 means that there is none."""
    used, committed, limit = (
        lenient_integer(jvm, f"java {figure} metaspace") for figure in ("used", "committed", "max")
    )
    if used is None or committed is None or limit is None or used < 0 or committed < 0 or limit < -1:
        return None
    return Metaspace(used=used, committed=committed, max=limit)
