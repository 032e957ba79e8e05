"""What bases say, from JSON objects to messages of the contract: tolerant of every runtime version, never guessing.

Bases differ in the case of enum text, in whether they write ordinals, in which members they leave out; all of that is
read alike. Beyond that an object is either understood as a whole or refused with Malformed: a module list is never read
in part, since what is missing in it counts as not installed.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.fields import (
    Json,
    Malformed,
    enum,
    kind,
    lenient_integer,
    lenient_number,
    lenient_text,
    optional_object,
    required_object,
    required_text,
    text,
)
from gateways.arklet.text import NAME_LIMIT, clip, clip_message, clip_trace, is_trace

V = TypeVar("V")
M = TypeVar("M", pb.Modules, pb.Reply, pb.BatchInstallResult)

IDENTITY_LIMIT = 1024
"""Longest identity, in characters, that is understood at all; the gateway demands more of it."""

URL_LIMIT = 8192
"""Longest module URL in a batch reply, in characters."""

MODULE_LIMIT = 4096
"""Most modules of a base, and most items of a batch; a longer list is Malformed."""

CPU_LIMIT = 65_535
"""Most CPUs of a base that are believed."""

LATEST = 253_402_300_799_999
"""Last millisecond of the year 9999, the latest that a protobuf Timestamp can hold."""

LARGEST = 1 << 20
"""Bytes of what is read of one answer: more is no report that a replica takes, and would end the gateway's stream."""

_MOST_MIB = 2.0**40
_MOST_CPU = 1e10
"""Mebibytes and seconds of CPU above which a base does not know what it says."""

_WHOLE = re.compile(r"-?[0-9]{1,9}")

_EMBEDDED_MAIN = "embed main"
"""mainClass of the base's own entry where it is embedded in its application: not a module."""


def _members(value: Callable[[str], V], prefix: str, *names: str) -> dict[str, V]:
    """Return values by name in the order of a Java enum, since some JSON libraries on bases write ordinals."""
    return {name: value(f"{prefix}_{name}") for name in names}


_REPLY_CODES = _members(
    pb.ReplyCode.Value, "REPLY_CODE", "SUCCESS", "FAILED", "CMD_NOT_FOUND", "CMD_PROCESS_INTERNAL_ERROR"
)
_CLIENT_CODES = _members(
    pb.ClientCode.Value, "CLIENT_CODE", "SUCCESS", "FAILED", "REPEAT_BIZ", "NOT_FOUND_BIZ", "ILLEGAL_STATE_BIZ"
)
_MODULE_STATES = _members(
    pb.ModuleState.Value, "MODULE_STATE", "UNRESOLVED", "RESOLVED", "ACTIVATED", "DEACTIVATED", "BROKEN", "STOPPED"
)
_BASE_STATES = {"ACTIVATED": pb.BASE_STATE_ACTIVATED, "DEACTIVATED": pb.BASE_STATE_DEACTIVATED}
_MASTER_STATES = {name: _BASE_STATES.get(name, pb.BASE_STATE_UNKNOWN) for name in _MODULE_STATES}
_LONG = ("bizName", "bizVersion", "bizState")
_SHORT = ("name", "version", "state")


class Negative(Exception):
    """A well-formed answer to a question, but not SUCCESS."""

    def __init__(self, reply: pb.Reply) -> None:
        code = pb.ReplyCode.Name(reply.code).removeprefix("REPLY_CODE_")
        super().__init__(f"{code}: {reply.message}" if reply.message else code)
        self.reply = reply


def heartbeat(data: Json) -> pb.Report:
    """Read a heartbeat but for its port, which means nothing over MQTT; raises Malformed. No identity is refused."""
    identity, name, version, cluster_name = _metadata(required_object(data, "baseMetadata"), "baseMetadata.")
    heartbeat = pb.Heartbeat(
        name=name,
        version=version,
        cluster_name=cluster_name,
        host_name=text(data, "localHostName", "localHostName"),
        address=pb.Address(ip=text(data, "localIP", "localIP")),
        state=_base_state(text(data, "state", "state")),
    )
    return pb.Report(base_id=identity, heartbeat=heartbeat)


def port(data: Json) -> int:
    """Read the port of a heartbeat, a number or text, 0 if not given, -1 where none was free; raises Malformed."""
    given = data.get("port")
    if given is None or given == "":
        return 0
    if (isinstance(given, str) and _WHOLE.fullmatch(given)) or (isinstance(given, float) and given.is_integer()):
        number = int(given)
    elif isinstance(given, int) and not isinstance(given, bool):
        number = given
    else:
        raise Malformed(f"port: expected a whole number, got {kind(given)}")
    if not -1 <= number <= 65535:
        raise Malformed(f"port: {number} is not within -1 to 65535")
    return number


def baseline_query(data: Json) -> pb.Report:
    """Read a baseline query, without its id; raises Malformed."""
    identity, name, version, cluster_name = _metadata(data, "")
    query = pb.BaselineQuery(name=name, version=version, cluster_name=cluster_name)
    return pb.Report(base_id=identity, baseline_query=query)


def reply(answer: Json) -> pb.Reply:
    """Read the answer to installBiz, uninstallBiz or switchBiz; raises Malformed.

    The inner message says more than the outer one, unless it is a stack trace (as over MQTT).
    """
    code = answer.get("code")
    if code is None:
        raise Malformed("code: missing")
    read = _client_reply(optional_object(answer, "data"))
    read.code = enum(code, _REPLY_CODES, pb.REPLY_CODE_UNSPECIFIED)
    read.message = read.message or clip_message(lenient_text(answer, "message"))
    if trace := lenient_text(answer, "errorStackTrace"):
        read.stack_trace = clip_trace(trace)
    return _bounded(read)


def batch_reply(answer: Json) -> pb.BatchInstallResult:
    """Read the answer to batchInstallBiz; raises Malformed. Without a verdict for each URL items is empty."""
    result = pb.BatchInstallResult(reply=reply(answer))
    replies = optional_object(optional_object(answer, "data"), "bizUrlToResponse")
    if len(replies) > MODULE_LIMIT:
        raise Malformed(f"data.bizUrlToResponse: more than {MODULE_LIMIT} items")
    for url, item in replies.items():
        if not url or len(url) > URL_LIMIT or not isinstance(item, dict):
            raise Malformed(f"data.bizUrlToResponse: {kind(item)} under a URL of {len(url)} characters")
        result.items.add(url=url, reply=_client_reply(item))
    return _bounded(result)


def modules(answer: Json) -> pb.Modules:
    """Read the answer to queryAllBiz, the complete list of modules; raises Malformed or Negative."""
    entries = enumerate(_list(_positive(answer).get("data")))
    read = [
        _module(entry, f"data[{index}]", _LONG)
        for index, entry in entries
        if not (isinstance(entry, dict) and entry.get("mainClass") == _EMBEDDED_MAIN)
    ]
    return _bounded(pb.Modules(complete=True, modules=read))


def _usage(jvm: Json, cpu: Json) -> pb.Usage | None:
    """Read heap and CPU.

    "total used (%)" is no share: it is the milliseconds that all processors have counted since the base began to, busy
    or not. The others are their shares.
    """
    heap = lenient_number(jvm, "used heap memory(M)")
    total, user, system = (lenient_number(cpu, f"{part} used (%)") for part in ("total", "user", "system"))
    usage = pb.Usage()
    if heap is not None and 0 <= heap < _MOST_MIB:
        usage.heap_bytes = int(heap * 1024 * 1024)
    if total is not None and user is not None and system is not None and min(total, user, system) >= 0:
        busy = round(min((user + system) / 100, 1.0) * total / 1000, 3)
        if busy <= _MOST_CPU:
            usage.cpu_seconds = busy
    return usage if usage.ByteSize() else None


def simple_modules(data: Any) -> pb.Modules:
    """Read the short module list of the MQTT tunnel (simpleBiz), which is complete; raises Malformed."""
    read = [_module(entry, f"data[{index}]", _SHORT) for index, entry in enumerate(_list(data))]
    return _bounded(pb.Modules(complete=True, modules=read))


def health(answer: Json) -> pb.Health:
    """Read the answer to health; raises Malformed or Negative.

    Bases may leave out any part of it or give it in a wrong type, which is no news: that part is then absent.
    """
    data = optional_object(optional_object(_positive(answer), "data"), "healthData")
    jvm = optional_object(data, "jvm")
    return pb.Health(
        state=_master_state(optional_object(data, "masterBizInfo").get("bizState")),
        metaspace=_metaspace(jvm),
        java_version=clip(lenient_text(jvm, "java version"), NAME_LIMIT),
        cpus=_cpus(optional_object(data, "cpu")),
        usage=_usage(jvm, optional_object(data, "cpu")),
    )


def _cpus(cpu: Json) -> int:
    count = lenient_integer(cpu, "count")
    return count if count is not None and 0 < count <= CPU_LIMIT else 0


def help_commands(answer: Json) -> frozenset[str]:
    """Read the answer to help: the names of the commands that the base knows; raises Malformed or Negative."""
    listed = _positive(answer).get("data")
    if not isinstance(listed, list):
        raise Malformed(f"data: expected a list, got {kind(listed)}")
    names = (lenient_text(entry, "id") for entry in listed[:MODULE_LIMIT] if isinstance(entry, dict))
    return frozenset(name for name in names if 0 < len(name) <= NAME_LIMIT)


def _metadata(data: Json, path: str) -> tuple[str, str, str, str]:
    """Return identity, name, version and cluster name of a base."""
    return (
        required_text(data, "identity", f"{path}identity", IDENTITY_LIMIT),
        text(data, "name", f"{path}name"),
        text(data, "version", f"{path}version"),
        text(data, "clusterName", f"{path}clusterName"),
    )


def _base_state(state: str) -> pb.BaseState.ValueType:
    if not state:
        return pb.BASE_STATE_UNSPECIFIED
    return _BASE_STATES.get(state.upper(), pb.BASE_STATE_UNKNOWN)


def _master_state(state: Any) -> pb.BaseState.ValueType:
    if state is None or state == "":
        return pb.BASE_STATE_UNSPECIFIED
    return enum(state, _MASTER_STATES, pb.BASE_STATE_UNKNOWN)


def _positive(answer: Json) -> Json:
    read = reply(answer)
    if read.code != pb.REPLY_CODE_SUCCESS:
        raise Negative(read)
    return answer


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise Malformed(f"data: expected a list, got {kind(data)}")
    if len(data) > MODULE_LIMIT:
        raise Malformed(f"data: more than {MODULE_LIMIT} modules")
    return data


def _bounded(read: M) -> M:
    if (size := read.ByteSize()) > LARGEST:
        raise Malformed(f"{size} bytes are read of it; at most {LARGEST} are reported")
    return read


def _client_reply(answer: Json) -> pb.Reply:
    """Read a ClientResponse of sofa-ark; the outer code follows from the inner one."""
    code = enum(answer.get("code"), _CLIENT_CODES, pb.CLIENT_CODE_UNSPECIFIED)
    message = lenient_text(answer, "message")
    infos = answer.get("bizInfos")
    outer = pb.REPLY_CODE_UNSPECIFIED
    if code != pb.CLIENT_CODE_UNSPECIFIED:
        outer = pb.REPLY_CODE_SUCCESS if code == pb.CLIENT_CODE_SUCCESS else pb.REPLY_CODE_FAILED
    return pb.Reply(
        code=outer,
        client_code=code,
        message="" if is_trace(message) else clip_message(message),
        stack_trace=clip_trace(message) if is_trace(message) else "",
        modules=_installed(infos) if isinstance(infos, list) else (),
    )


def _installed(infos: list[Any]) -> list[pb.Module]:
    """Read bizInfos of a reply, where an entry that cannot be read is left out."""
    installed = []
    for info in infos[:MODULE_LIMIT]:
        try:
            installed.append(_module(info, "data.bizInfos", _LONG))
        except Malformed:
            continue
    return installed


def _module(entry: Any, path: str, keys: tuple[str, str, str]) -> pb.Module:
    if not isinstance(entry, dict):
        raise Malformed(f"{path}: expected an object, got {kind(entry)}")
    name, version, state = keys
    record = _latest([entry.get("latestStateRecord")] if keys is _SHORT else entry.get("bizStateRecords"))
    changed_at, millis = None, lenient_integer(record, "changeTime")
    if millis is not None and 0 <= millis <= LATEST:
        changed_at = Timestamp(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000)
    return pb.Module(
        name=required_text(entry, name, f"{path}.{name}", NAME_LIMIT),
        version=required_text(entry, version, f"{path}.{version}", NAME_LIMIT),
        state=enum(entry.get(state), _MODULE_STATES, pb.MODULE_STATE_UNSPECIFIED),
        changed_at=changed_at,
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


def _metaspace(jvm: Json) -> pb.Metaspace | None:
    """Read the three figures in bytes; a limit of -1 means that there is none."""
    used, committed, limit = (
        lenient_integer(jvm, f"java {figure} metaspace") for figure in ("used", "committed", "max")
    )
    if used is None or committed is None or limit is None or used < 0 or committed < 0 or limit < -1:
        return None
    return pb.Metaspace(used_bytes=used, committed_bytes=committed, max_bytes=limit)
