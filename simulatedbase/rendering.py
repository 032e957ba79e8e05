"""JSON of the simulated base: envelopes, modules and health as fastjson writes the Java objects.

Members of beans are sorted, with nulls left out; those of maps have the order of the
Java map, as it was recorded from real bases. States are in lower case.
"""

from __future__ import annotations

import orjson

from gateways.arklet.fields import Json
from simulatedbase.java import JavaError
from simulatedbase.profile import Profile
from simulatedbase.runtime import Biz

_MIB = 1024 * 1024
_HEAP = 183_500_800
_HEAP_MAX = 928_514_048

_EMPTY_LISTS = (
    *(f"deny{rest}" for rest in ("ImportClasses", "ImportPackageNodes", "ImportPackageStems", "ImportPackages")),
    *("denyImportResources", "denyPrefixImportResourceStems", "denySuffixImportResourceStems"),
    *("injectExportPackages", "injectPluginDependencies"),
)
"""Members of the Java object that are empty for a module without such settings."""


def encode(envelope: Json) -> bytes:
    """Return the body of an answer."""
    return orjson.dumps(envelope)


def bean(**members: object) -> Json:
    """Return a Java bean as fastjson writes it."""
    return {name: value for name, value in sorted(members.items()) if value is not None}


def succeeded(identity: str, answer: object) -> Json:
    """Return the envelope of a command that ran well."""
    return bean(baseIdentity=identity, code="SUCCESS", data=answer)


def failed(identity: str, message: str, answer: Json | None = None) -> Json:
    """Return the envelope of a command that ran to a negative result."""
    return bean(baseIdentity=identity, code="FAILED", data=answer, message=message)


def not_found() -> Json:
    """Return the envelope for a command that does not exist."""
    return bean(code="CMD_NOT_FOUND", message="please follow the doc")


def internal_error(error: JavaError) -> Json:
    """Return the envelope for an exception."""
    return bean(
        code="CMD_PROCESS_INTERNAL_ERROR", errorStackTrace=error.trace, message=f"Internal Error: {error.reason}"
    )


def listed(biz: Biz) -> Json:
    """Return a module as queryAllBiz lists it."""
    return bean(
        bizName=biz.name,
        bizState=biz.state.value,
        bizStateRecords=_records(biz),
        bizVersion=biz.version,
        mainClass=biz.main_class,
        webContextPath=biz.path,
    )


def runtime_object(biz: Biz) -> Json:
    """Return a module as the reply to its installation shows it: every getter of the Java object."""
    folder = f"file:{biz.work_dir}/"
    return bean(
        **listed(biz),
        **{name: [] for name in _EMPTY_LISTS},
        attributes={},
        bizTempWorkDir=biz.work_dir,
        bizUrl=folder,
        classPath=[folder, f"{folder}lib"],
        declaredMode=True,
        identity=biz.identity,
        priority=biz.priority,
    )


def master(profile: Profile) -> Json:
    """Return the base's own entry."""
    return bean(bizName=profile.name, bizState="activated", bizVersion=profile.version, webContextPath="/")


def health_entry(biz: Biz) -> Json:
    """Return a module as health lists it."""
    return bean(bizName=biz.name, bizState=biz.state.value, bizVersion=biz.version, webContextPath=biz.path)


def plugin() -> Json:
    """Return the one plug-in of the base as health lists it."""
    return bean(
        artifactId="web-ark-plugin",
        groupId="com.alipay.sofa",
        pluginActivator="com.alipay.sofa.ark.web.embed.WebPluginActivator",
        pluginName="web-ark-plugin",
        pluginUrl="file:/opt/base/web-ark-plugin.jar!/",
        pluginVersion="2.2.16",
    )


def cpu() -> Json:
    """Return the processor figures of health; the total is no percentage, whatever its name says."""
    return {
        "count": 4,
        "total used (%)": 131749.0,
        "type": "Xeon",
        "user used (%)": 9.9,
        "free (%)": 81.4,
        "system used (%)": 6.2,
    }


def jvm(profile: Profile, metaspace_used: int, uptime: float) -> Json:
    """Return the JVM figures of health: (M) in MiB, metaspace in bytes, uptime in seconds."""
    return {
        "max non heap memory(M)": -1 / _MIB,
        "java version": profile.java_version,
        "max memory(M)": _HEAP_MAX / _MIB,
        "max heap memory(M)": _HEAP_MAX / _MIB,
        "used heap memory(M)": 137.1,
        "used non heap memory(M)": metaspace_used / _MIB,
        "loaded class count": 10063,
        "init non heap memory(M)": 2.4,
        "total memory(M)": _HEAP / _MIB,
        "free memory(M)": 37.3,
        "unload class count": 0,
        "total class count": 10063,
        "java max metaspace": profile.metaspace_max,
        "java committed metaspace": committed(metaspace_used),
        "committed heap memory(M)": _HEAP / _MIB,
        "java home": "/usr/lib/jvm/jre",
        "init heap memory(M)": 64.0,
        "java used metaspace": metaspace_used,
        "committed non heap memory(M)": (metaspace_used + 4 * _MIB) / _MIB,
        "run time(s)": round(uptime, 3),
    }


def committed(metaspace_used: int) -> int:
    """Return the metaspace that a JVM has committed when so much is used: chunks of 64 KiB."""
    return -(-metaspace_used // 65536) * 65536


def _records(biz: Biz) -> list[Json]:
    return [
        bean(changeTime=record.time, message=record.message, reason=record.reason, state=record.state.value)
        for record in biz.records
    ]
