"""kubeconfig files, read as kubectl reads them: merged, one context chosen, paths made absolute.

The first file that has a cluster, user or context of a name wins, and so does the
first ``current-context``. Relative paths are relative to the file that they stand in.

Source: client-go, tools/clientcmd (loader.go, client_config.go, validation.go).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from controlplane.kube import kubeconfigfields as fields
from controlplane.kube.kubeconfigfields import Unusable

EXEC_EXTENSION = "client.authentication.k8s.io/exec"
"""The extension of a cluster that is for its exec plugin."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where requests go. ca is PEM, in the file or as data; empty for the system's certificates."""

    server: str
    tls_server_name: str = ""
    insecure: bool = False
    ca_file: str = ""
    ca_data: bytes = b""
    proxy_url: str = ""
    compressed: bool = True
    exec_config: Any = None


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A program that gives credentials. command is a path, or a name to look for in PATH."""

    command: str
    api_version: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    install_hint: str = ""
    gets_cluster: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """Who we are. impersonation is the headers that say as whom we act; oidc is the configuration of that provider."""

    certificate_file: str = ""
    certificate_data: bytes = b""
    key_file: str = ""
    key_data: bytes = b""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    impersonation: tuple[tuple[str, str], ...] = ()
    oidc: Mapping[str, str] | None = None
    plugin: ExecPlugin | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """A context with the cluster and the user that it names."""

    name: str
    cluster: Cluster
    user: User


def load(kubeconfig: str, context: str = "") -> Context:
    """Return a context of the files that kubeconfig lists, the current one by default; raises Unusable. Blocks."""
    paths = list(dict.fromkeys(path for path in kubeconfig.split(os.pathsep) if path))
    files = [(path, read) for path in paths if (read := _read(path)) is not None]
    if not files:
        raise Unusable("no such file")
    return choose(files, context)


def choose(files: list[tuple[str, Any]], context: str = "") -> Context:
    """Return a context of files, given as (path, what is in it); raises Unusable."""
    merged = {kind: _merged(files, kind) for kind in ("clusters", "users", "contexts")}
    current = next((text for _, content in files if (text := content.get("current-context"))), "")
    name = context or current
    if not isinstance(name, str) or not name:
        raise Unusable("no context is chosen: set current-context (kubectl config use-context NAME)")
    place, entry = _entry(merged, "contexts", name, "current-context")
    chosen = fields.CONTEXT.check(entry, f'{place}: context "{name}"')
    cluster_name, user_name = chosen.get("cluster", ""), chosen.get("user", "")
    place, entry = _entry(merged, "clusters", cluster_name, f'context "{name}"')
    cluster = _cluster(entry, f'{place}: cluster "{cluster_name}"', Path(place).parent)
    if not user_name:
        return Context(name, cluster, User())
    place, entry = _entry(merged, "users", user_name, f'context "{name}"')
    return Context(name, cluster, _user(entry, f'{place}: user "{user_name}"', Path(place).parent))


def _read(path: str) -> Any:
    file = Path(path).expanduser().absolute()
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{path}: cannot be read ({error.strerror})") from error
    try:
        content = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        # Not its own text: it shows lines of the file, and there are secrets in them.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise Unusable(f"{path}{line}: is no YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise Unusable(f"{path}: is no kubeconfig: not a mapping of fields")
    return content


def _merged(files: list[tuple[str, Any]], kind: str) -> dict[str, tuple[str, Any]]:
    """Return (path, entry) by name."""
    merged: dict[str, tuple[str, Any]] = {}
    singular = kind.removesuffix("s")
    for path, content in files:
        entries = content.get(kind)
        if entries is None:
            continue
        if not isinstance(entries, list):
            raise Unusable(f"{path}: {kind} must be a list")
        found: dict[str, tuple[str, Any]] = {}
        for entry in entries:
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                raise Unusable(f"{path}: each entry of {kind} must have a name, which is a text")
            if name in found:
                raise Unusable(f'{path}: there are two entries "{name}" in {kind}')
            found[name] = (str(Path(path).expanduser().absolute()), entry.get(singular))
        merged = found | merged
    return merged


def _entry(merged: Mapping[str, Mapping[str, tuple[str, Any]]], kind: str, name: str, by: str) -> tuple[str, Any]:
    if not name:
        raise Unusable(f"{by} names no {kind.removesuffix('s')}")
    if name not in merged[kind]:
        raise Unusable(f'there is no {kind.removesuffix("s")} "{name}", which {by} names')
    return merged[kind][name]


def _cluster(entry: Any, where: str, folder: Path) -> Cluster:
    told = fields.CLUSTER.check(entry, where)
    server = told.get("server", "").rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise Unusable(f"{where}: field server must be http:// or https:// and a host, without user and password")
    cluster = Cluster(
        server=server.partition("?")[0].partition("#")[0],
        tls_server_name=told.get("tls-server-name", ""),
        insecure=told.get("insecure-skip-tls-verify", False),
        ca_file=_path(told.get("certificate-authority", ""), folder),
        ca_data=_data(told, "certificate-authority-data", where),
        proxy_url=told.get("proxy-url", ""),
        compressed=not told.get("disable-compression", False),
        exec_config=_extension(told.get("extensions", []), EXEC_EXTENSION),
    )
    _either(where, told, "certificate-authority", "certificate-authority-data")
    if cluster.insecure and (cluster.ca_file or cluster.ca_data):
        raise Unusable(f"{where}: insecure-skip-tls-verify with a certificate-authority: which one is meant?")
    return cluster


def _user(entry: Any, where: str, folder: Path) -> User:
    told = fields.USER.check(entry, where)
    _either(where, told, "client-certificate", "client-certificate-data")
    _either(where, told, "client-key", "client-key-data")
    user = User(
        certificate_file=_path(told.get("client-certificate", ""), folder),
        certificate_data=_data(told, "client-certificate-data", where),
        key_file=_path(told.get("client-key", ""), folder),
        key_data=_data(told, "client-key-data", where),
        token=told.get("token", ""),
        token_file=_path(told.get("tokenFile", ""), folder),
        username=told.get("username", ""),
        password=told.get("password", ""),
        impersonation=_impersonation(told, where),
        oidc=_provider(told["auth-provider"], where, folder) if "auth-provider" in told else None,
        plugin=_plugin(told["exec"], where, folder) if "exec" in told else None,
    )
    certificate, key = user.certificate_file or user.certificate_data, user.key_file or user.key_data
    if bool(certificate) != bool(key):
        raise Unusable(f"{where}: client-certificate and client-key belong together")
    if (user.token or user.token_file) and (user.username or user.password):
        raise Unusable(f"{where}: a token and a username: which one is meant?")
    if user.oidc is not None and user.plugin is not None:
        raise Unusable(f"{where}: auth-provider and exec: which one is meant?")
    return user


def _impersonation(told: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    headers = [("Impersonate-User", told.get("as", "")), ("Impersonate-Uid", told.get("as-uid", ""))]
    headers += [("Impersonate-Group", group) for group in told.get("as-groups", [])]
    for key, values in told.get("as-user-extra", {}).items():
        if not isinstance(key, str) or not isinstance(values, list):
            raise Unusable(f"{where}: field as-user-extra must be lists of texts by key")
        # As client-go escapes what may not stand in the name of a header.
        name = f"Impersonate-Extra-{quote(key, safe='!#$&*+-.^_`|~' + chr(39))}"
        headers += [(name, value) for value in values]
    for name, value in headers:
        if not isinstance(value, str) or not value.isprintable():
            raise Unusable(f"{where}: {name.lower()} must be a text of printable characters")
    given = tuple((name, value) for name, value in headers if value)
    if given and not told.get("as"):
        raise Unusable(f"{where}: as-uid, as-groups and as-user-extra are for a user that as names")
    return given


def _plugin(entry: Any, where: str, folder: Path) -> ExecPlugin:
    where = f"{where}, exec"
    told = fields.EXEC.check(entry, where)
    command, version, mode = (told.get(name, "") for name in ("command", "apiVersion", "interactiveMode"))
    if not command:
        raise Unusable(f"{where}: field command is missing")
    if version not in fields.EXEC_VERSIONS:
        raise Unusable(f"{where}: field apiVersion is {version!r} and must be {' or '.join(fields.EXEC_VERSIONS)}")
    if not mode and version == fields.EXEC_VERSIONS[0]:
        raise Unusable(f"{where}: field interactiveMode is missing, which {version} demands: Never or IfAvailable")
    if mode and mode not in fields.INTERACTIVE_MODES:
        raise Unusable(
            f"{where}: field interactiveMode is {mode!r} and must be {' or '.join(fields.INTERACTIVE_MODES)}: "
            "nobody is at the standard input of this program"
        )
    variables = [fields.EXEC_ENV.check(item, f"{where}, env") for item in told.get("env", [])]
    if any(not item.get("name") for item in variables):
        raise Unusable(f"{where}: each entry of env must have a name")
    args = told.get("args", [])
    if not all(isinstance(argument, str) for argument in args):
        raise Unusable(f"{where}: field args must be a list of texts")
    return ExecPlugin(
        # A command without a slash is looked for in PATH.
        command=_path(command, folder) if "/" in command else command,
        api_version=version,
        args=tuple(args),
        env=tuple((item["name"], item.get("value", "")) for item in variables),
        install_hint="".join(c if c.isprintable() or c.isspace() else " " for c in told.get("installHint", "")),
        gets_cluster=told.get("provideClusterInfo", False),
    )


def _provider(entry: Any, where: str, folder: Path) -> Mapping[str, str]:
    where = f"{where}, auth-provider"
    told = fields.AUTH_PROVIDER.check(entry, where)
    name = told.get("name", "")
    if name != "oidc":
        why = fields.GONE_PROVIDERS.get(name, "it is none that Kubernetes knows; use an exec plugin")
        raise Unusable(f"{where}: {name!r} is not supported: {why}")
    config: dict[str, str] = fields.OIDC.check(told.get("config"), where)
    for required in ("idp-issuer-url", "client-id"):
        if not config.get(required):
            raise Unusable(f"{where}: {required} is missing in config")
    if not config["idp-issuer-url"].startswith("https://"):
        raise Unusable(f"{where}: idp-issuer-url must begin with https://")
    authority = "idp-certificate-authority"
    return config | ({authority: _path(config[authority], folder)} if authority in config else {})


def _either(where: str, told: Mapping[str, Any], one: str, other: str) -> None:
    if told.get(one) and told.get(other):
        raise Unusable(f"{where}: {one} and {other}: which one is meant?")


def _path(path: str, folder: Path) -> str:
    return str(folder / path) if path else ""


def _data(told: Mapping[str, Any], name: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(told.get(name, "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unusable(f"{where}: field {name} is no Base64") from None


def _extension(extensions: list[Any], name: str) -> Any:
    return next(
        (item.get("extension") for item in extensions if isinstance(item, dict) and item.get("name") == name), None
    )
