"""Settings from environment variables: typed, frozen, explained, refused when wrong.

Each program has one Settings class; each field's alias is the variable and its
description the meaning with unit. Nothing else reads the environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.masking import masked
from service.output import complain
from service.wording import plain

EXIT_USAGE = 2

ALL_VARIABLES = frozenset(
    """
    CLIENT_ID ENV NAMESPACE POD_IP ADVERTISE_ADDRESS REPLICA_INSTANCE
    KUBECONFIG CLUSTER EMBEDDED_DB CONTROL_PLANE MCTL_SERVER
    GRPC_PORT GRPC_HOST HEALTH_PORT METRICS_PORT REPORT_PORT STATUS_HOST STATUS_SOCKET LOG_FORMAT LOG_LEVEL
    ENABLE_HTTP_TUNNEL HTTP_TUNNEL_LISTEN_PORT HTTP_TUNNEL_LISTEN_HOST HTTP_TUNNEL_ALLOWED_CIDRS HTTP_TUNNEL_TOKEN
    HTTP_TUNNEL_CONNECT_TIMEOUT HTTP_TUNNEL_HEALTH_TIMEOUT HTTP_TUNNEL_QUERY_TIMEOUT HTTP_TUNNEL_POLL_CONCURRENCY
    SHUTDOWN_TIMEOUT
    ENABLE_MQTT_TUNNEL MQTT_BROKER MQTT_PORT MQTT_USERNAME MQTT_PASSWORD MQTT_CLIENT_PREFIX
    MQTT_CA_PATH MQTT_CLIENT_CRT_PATH MQTT_CLIENT_KEY_PATH MQTT_TLS_INSECURE MQTT_HEALTH_TIMEOUT MQTT_QUERY_TIMEOUT
    VNODE_RESOURCES
    REPORT_HOOKS REPORT_TOKEN TRACKER_CONFIG_PATH IS_CLUSTER WORKLOAD_MAX_LEVEL VNODE_WORKER_NUM
    ENABLE_MODULE_DEPLOYMENT_CONTROLLER ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE MODULE_SCALE_DOWN_DELAY
    KUBELET_PROXY_ENABLED KUBELET_PROXY_PORT KUBELET_PROXY_CRT_PATH KUBELET_PROXY_KEY_PATH
    KUBELET_PROXY_CLIENT_CA_PATH ORPHAN_MODULE_POLICY MODULE_UNINSTALL_TIMEOUT
    """.split()  # noqa: SIM905
)
"""Every documented variable of every program, to tell a misspelt one from a foreign one."""

_ALIKE = 0.88
"""Two swapped letters in a name of nine are as alike as 0.889."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Settings(BaseSettings):
    """Base of every program's settings; an empty variable counts as not set."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        case_sensitive=True,
        # Lists are written as people write them in manifests, not as JSON: validators read the text.
        enable_decoding=False,
    )

    def complaints(self) -> Sequence[str]:
        """Return what is wrong and keeps the program from no work but that of the variable, each with its name."""
        return ()


S = TypeVar("S", bound=Settings)


class Source(Enum):
    """Where a value comes from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    IMPOSED = "module-controller"
    """Set by whoever starts the program."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as a program has it; value is for people: secrets are masked, empty means none."""

    name: str
    value: str
    source: Source
    meaning: str


class ConfigurationError(ValueError):
    """Settings cannot be used; each line names variable, value and fix."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read(cls: type[S], imposed: Mapping[str, str] = _NOTHING) -> S:
    """Return the settings from the environment, imposed going before it; raises ConfigurationError."""
    lines = list(_misspelt(os.environ, cls))
    values: dict[str, Any] = {name: value for name, value in imposed.items() if name in names(cls)}
    try:
        settings = cls(**values)
    except ValidationError as error:
        lines += [_explain(cls, dict(e)) for e in error.errors()]
        raise ConfigurationError(lines) from None
    if lines:
        raise ConfigurationError(lines)
    return settings


def load(cls: type[S]) -> S:
    """Return the settings, or end the process with a message that names variable, value and fix."""
    try:
        return read(cls)
    except ConfigurationError as error:
        refuse(error)


def refuse(error: ConfigurationError) -> NoReturn:
    """Print what is wrong with the settings and end the process with exit code 2."""
    complain("\n  ".join(("cannot start: wrong settings", *error.lines)))
    raise SystemExit(EXIT_USAGE)


def describe(cls: type[Settings]) -> str:
    """Return the table of variables for --help: name, default and meaning."""
    rows = [(name, _default(field), field.description or "") for _, name, field in _fields(cls)]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"  {name:<{width}}  {text} (default: {default})" for name, default, text in rows)


def effective(settings: Settings, imposed: Mapping[str, str] = _NOTHING) -> tuple[Variable, ...]:
    """Return each variable with its value and where it comes from, imposed being what the settings were read with."""

    def source(name: str) -> Source:
        if name in imposed:
            return Source.IMPOSED
        return Source.ENVIRONMENT if os.environ.get(name) else Source.DEFAULT

    return tuple(
        Variable(name, _shown(getattr(settings, attribute)), source(name), field.description or "")
        for attribute, name, field in _fields(type(settings))
    )


def names(cls: type[Settings]) -> frozenset[str]:
    """Return the variables that a class reads."""
    return frozenset(name for _, name, _ in _fields(cls))


def _fields(cls: type[Settings]) -> Iterator[tuple[str, str, FieldInfo]]:
    for attribute, field in cls.model_fields.items():
        alias = field.validation_alias or field.alias
        yield attribute, alias if isinstance(alias, str) else attribute.upper(), field


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none, it must be set"
    value = field.get_default(call_default_factory=True, validated_data={})
    return _shown(value) or "none"


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(_shown(v) for v in value)
    return "" if value is None else masked(str(getattr(value, "value", value)))


def _explain(cls: type[Settings], error: dict[str, Any]) -> str:
    variables = {attribute: name for attribute, name, _ in _fields(cls)}
    meanings = {name: field.description or "" for _, name, field in _fields(cls)}
    location = error["loc"][0] if error["loc"] else ""
    name = variables.get(location, location)
    problem = masked(plain(str(error["msg"])))
    if not name:
        return problem
    if error["type"] == "missing":
        # The input of such an error is every variable that was read, secrets included.
        return f"{name} is not set, and must be. {name} is: {meanings.get(name, '')}"
    secret = any(n == name and "SecretStr" in str(f.annotation) for _, n, f in _fields(cls))
    value = "********" if secret else masked(str(error.get("input")))
    text = f"{name}={value}: {problem}. {name} is: {meanings.get(name, '')}"
    if name.endswith("_PORT") and value.startswith("tcp://"):
        text += f". Kubernetes set it for a Service called {name.removesuffix('_PORT').lower()!r}: "
        text += "set enableServiceLinks: false in the Pod, or set the variable"
    return text


def _misspelt(environ: Mapping[str, str], cls: type[Settings]) -> Iterator[str]:
    known = ALL_VARIABLES | names(cls)
    for name in sorted(environ.keys() - known):
        close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE) if len(name) >= 8 else []
        if close:
            # Without its value: it may be a password, under a name that nobody knows to be one.
            yield f"{name}: there is no such variable. Did you mean {close[0]}? Rename or unset it"
