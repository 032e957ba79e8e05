"""JSON as fastjson reads and writes it: parameters with its leniency and its traps, and Java objects.

No library in Python reads as fastjson does. Members of beans are sorted, with nulls left out; those of maps have the
order of the Java map, as it was recorded from real bases. States are in lower case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson

from gateways.arklet.fields import Json
from simulatedbase.java import Jar, JavaError, invalid, named_by_file, null_pointer
from simulatedbase.profile import Profile
from simulatedbase.runtime import Biz

_RECORDED: Json = orjson.loads(Path(__file__).with_name("recorded.json").read_bytes())
"""What a real base said, for all that nobody asks of a simulated one."""

NOT_FOUND: Json = {"code": "CMD_NOT_FOUND", "message": "please follow the doc"}
"""The envelope for a command that does not exist."""

_CPU: Json = _RECORDED["health"]["cpu"]
PLUGINS: list[Json] = _RECORDED["health"]["pluginListInfo"]
_JVM: Json = _RECORDED["health"]["jvm"]
_INSTALLED: Json = _RECORDED["installed"]


def bean(**members: object) -> Json:
    """Return a Java bean as fastjson writes it."""
    return {name: value for name, value in sorted(members.items()) if value is not None}


def succeeded(identity: str, answer: object) -> Json:
    """Return the envelope of a command that ran well."""
    return bean(baseIdentity=identity, code="SUCCESS", data=answer)


def failed(identity: str, message: str, answer: Json | None = None) -> Json:
    """Return the envelope of a command that ran to a negative result."""
    return bean(baseIdentity=identity, code="FAILED", data=answer, message=message)


def internal_error(error: JavaError) -> Json:
    """Return the envelope for an exception."""
    return bean(
        code="CMD_PROCESS_INTERNAL_ERROR", errorStackTrace=error.trace, message=f"Internal Error: {error.reason}"
    )


def listed(biz: Biz) -> Json:
    """Return a module as queryAllBiz lists it."""
    records = [
        bean(changeTime=record.time, message=record.message, reason=record.reason, state=record.state.value)
        for record in biz.records
    ]
    return bean(**health_entry(biz), bizStateRecords=records, mainClass=biz.main_class)


def health_entry(biz: Biz) -> Json:
    """Return a module as health lists it."""
    return bean(bizName=biz.name, bizState=biz.state.value, bizVersion=biz.version, webContextPath=biz.path)


def runtime_object(biz: Biz) -> Json:
    """Return a module as the reply to its installation shows it: every getter of the Java object."""
    folder = f"file:{biz.work_dir}/"
    own = {
        "bizTempWorkDir": biz.work_dir,
        "bizUrl": folder,
        "classPath": [folder, f"{folder}lib"],
        "identity": biz.identity,
    }
    return _INSTALLED | listed(biz) | own


def master(profile: Profile) -> Json:
    """Return the base's own entry."""
    return bean(bizName=profile.name, bizState="activated", bizVersion=profile.version, webContextPath="/")


def jvm(profile: Profile, metaspace_used: int, uptime: float) -> Json:
    """Return the JVM figures of health: metaspace in bytes, uptime in seconds."""
    own = {
        "java version": profile.java_version,
        "java max metaspace": profile.metaspace_max,
        # A JVM commits metaspace in chunks of 64 KiB.
        "java committed metaspace": -(-metaspace_used // 65536) * 65536,
        "java used metaspace": metaspace_used,
        "run time(s)": round(uptime, 3),
    }
    return _JVM | own


def cpu(uptime: float) -> Json:
    """Return the CPU figures of health: shares in percent, and the milliseconds that all processors have counted."""
    return _CPU | {"total used (%)": round(uptime * _CPU["count"] * 1000.0, 1)}


@dataclass(frozen=True, slots=True)
class BizRequest:
    """What is to be changed; what was not given is empty. A batch has items instead of a module."""

    name: str
    version: str
    url: str = ""
    main_class: str = ""
    strategy: str = ""
    items: Sequence[Self] = ()

    @property
    def identity(self) -> str:
        """name:version, which no two commands may work on at a time; null:null for a batch."""
        return f"{self.name or 'null'}:{self.version or 'null'}"


def change_request(command: str, parameters: Json | None, jars: Mapping[str, Jar]) -> BizRequest:
    """Read and check the parameters of a command that changes modules; raises JavaError."""
    request = _biz_request(parameters)
    if command == "batchInstallBiz":
        given = fields(parameters or {}).get("bizlist")
        if given is None:
            raise invalid("bizList is null")
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise null_pointer()
        items = [_complete(_biz_request(item), jars) for item in given]
        return replace(request, name="", version="", items=items)
    if command == "installBiz":
        return _complete(request, jars)
    if not request.name.strip():
        raise invalid("bizName should not be blank")
    if not request.version.strip():
        raise invalid("bizVersion should not be blank")
    return request


def fields(parameters: Json) -> Json:
    """Return the parameters under names in lower case without underscores, as fastjson matches them."""
    return {name.replace("_", "").lower(): value for name, value in parameters.items()}


def text(value: Any) -> str:
    """Return a value of any type as text; null is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _biz_request(parameters: Json | None) -> BizRequest:
    if parameters is None:
        raise null_pointer()
    given = fields(parameters)
    if given.get("async"):
        raise invalid("async: a simulated base carries out no command asynchronously")
    envs = given.get("envs")
    return BizRequest(
        name=text(given.get("bizname")),
        version=text(given.get("bizversion")),
        url=text(given.get("bizurl")),
        main_class=text(envs.get("sofa.ark.biz.main.class")) if isinstance(envs, dict) else "",
        strategy=text(given.get("installstrategy")),
    )


def _complete(request: BizRequest, jars: Mapping[str, Jar]) -> BizRequest:
    """Return an installation with name and version, taken from the jar when neither is given."""
    if not request.url.strip():
        raise invalid("bizUrl should not be blank")
    if bool(request.name) != bool(request.version):
        raise invalid("bizName and bizVersion should be both blank or both not blank.")
    if request.name:
        return request
    name, version = named_by_file(request.url, jars)
    return replace(request, name=name, version=version)
