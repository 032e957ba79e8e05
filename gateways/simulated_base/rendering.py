"""JSON of the simulated base: envelopes, modules and health as fastjson writes the Java objects.

Keys are sorted and nulls left out, states are in lower case.
"""

from __future__ import annotations

import orjson

from gateways.arklet.fields import Json
from gateways.simulated_base.java import JavaError
from gateways.simulated_base.profile import Profile
from gateways.simulated_base.runtime import Biz

_MIB = 1024 * 1024
_HEAP = 183_500_800
_HEAP_MAX = 928_514_048


def encode(envelope: Json) -> bytes:
    """Return the body of an answer."""
    return orjson.dumps(envelope, option=orjson.OPT_SORT_KEYS)


def succeeded(identity: str, answer: object) -> Json:
    """Return the envelope of a command that ran well."""
    return {"code": "SUCCESS", "data": answer, "baseIdentity": identity}


def failed(identity: str, message: str, answer: Json | None = None) -> Json:
    """Return the envelope of a command that ran to a negative result."""
    envelope: Json = {"code": "FAILED", "message": message, "baseIdentity": identity}
    if answer is not None:
        envelope["data"] = answer
    return envelope


def not_found() -> Json:
    """Return the envelope for a command that does not exist."""
    return {"code": "CMD_NOT_FOUND", "message": "please follow the doc"}


def internal_error(error: JavaError) -> Json:
    """Return the envelope for an exception."""
    return {
        "code": "CMD_PROCESS_INTERNAL_ERROR",
        "message": f"Internal Error: {error.reason}",
        "errorStackTrace": error.trace,
    }


def listed(biz: Biz) -> Json:
    """Return a module as queryAllBiz lists it."""
    return {
        "bizName": biz.name,
        "bizState": biz.state.value,
        "bizStateRecords": _records(biz),
        "bizVersion": biz.version,
        "mainClass": biz.main_class,
        "webContextPath": f"/{biz.name}",
    }


def runtime_object(biz: Biz) -> Json:
    """Return a module as the reply to its installation shows it: every getter of the Java object."""
    work_dir = f"/var/ark/{biz.name}-{biz.version}-unpack"
    return listed(biz) | {
        "attributes": {},
        "bizTempWorkDir": work_dir,
        "classPath": [f"file:{work_dir}/BOOT-INF/classes/", f"file:{work_dir}/BOOT-INF/lib/{biz.name}-api.jar"],
        "declaredMode": True,
        "denyImportPackageNodes": [],
        "identity": biz.identity,
        "priority": biz.priority,
    }


def master(profile: Profile) -> Json:
    """Return the base's own entry."""
    return {
        "bizName": profile.name,
        "bizState": "activated",
        "bizVersion": profile.version,
        "webContextPath": "/",
    }


def health_entry(biz: Biz) -> Json:
    """Return a module as health lists it."""
    return {
        "bizName": biz.name,
        "bizState": biz.state.value,
        "bizVersion": biz.version,
        "webContextPath": f"/{biz.name}",
    }


def plugin() -> Json:
    """Return the one plug-in of the base as health lists it."""
    return {
        "artifactId": "web-ark-plugin",
        "groupId": "com.alipay.sofa",
        "pluginActivator": "com.alipay.sofa.ark.web.embed.WebPluginActivator",
        "pluginName": "web-ark-plugin",
        "pluginUrl": "file:/opt/base/web-ark-plugin.jar!/",
        "pluginVersion": "2.2.16",
    }


def cpu() -> Json:
    """Return the processor figures of health."""
    return {
        "count": 4,
        "free (%)": 81.4,
        "system used (%)": 6.2,
        "total used (%)": 131749.0,
        "type": "Xeon",
        "user used (%)": 9.9,
    }


def jvm(profile: Profile, metaspace_used: int, uptime: float) -> Json:
    """Return the JVM figures of health: (M) in MiB, metaspace in bytes, uptime in seconds."""
    return {
        "committed heap memory(M)": _HEAP / _MIB,
        "committed non heap memory(M)": (metaspace_used + 4 * _MIB) / _MIB,
        "free memory(M)": 37.3,
        "init heap memory(M)": 64.0,
        "init non heap memory(M)": 2.4,
        "java committed metaspace": committed(metaspace_used),
        "java home": "/usr/lib/jvm/jre",
        "java max metaspace": profile.metaspace_max,
        "java used metaspace": metaspace_used,
        "java version": profile.java_version,
        "loaded class count": 10063,
        "max heap memory(M)": _HEAP_MAX / _MIB,
        "max memory(M)": _HEAP_MAX / _MIB,
        "max non heap memory(M)": -1 / _MIB,
        "run time(s)": round(uptime, 3),
        "total class count": 10063,
        "total memory(M)": _HEAP / _MIB,
        "unload class count": 0,
        "used heap memory(M)": 137.1,
        "used non heap memory(M)": metaspace_used / _MIB,
    }


def committed(metaspace_used: int) -> int:
    """Return the metaspace that a JVM has committed when so much is used: chunks of 64 KiB."""
    return -(-metaspace_used // 65536) * 65536


def _records(biz: Biz) -> list[Json]:
    return [
        {"changeTime": record.time, "message": record.message, "reason": record.reason, "state": record.state.value}
        for record in biz.records
    ]
