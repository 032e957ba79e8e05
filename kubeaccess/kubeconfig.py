"""kubeconfig files (v1), read as kubectl reads them: merged, one context chosen, paths made absolute.

The first file that has a cluster, user or context of a name wins, and so does the first ``current-context``. Relative
paths are relative to the file that they stand in. A field that is not known is refused, with file and name: it could
change who we are or where requests go. docs/kubeconfig.md has the same fields for people; a test compares the two.

The official client's reader passes over ``as``, prefers ``token`` to ``tokenFile``, takes the last ``current-context``
and goes on as anonymous when a plugin fails.

Source: client-go, tools/clientcmd (loader.go, client_config.go, validation.go) and tools/clientcmd/api/v1/types.go.
"""

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from kubeaccess.authorization import CannotConnect
from kubeaccess.tls import read
from service import yamltree
from service.wording import problem

EXEC_EXTENSION = "client.authentication.k8s.io/exec"
"""The extension of a cluster that is for its exec plugin."""
GONE_PROVIDERS = {
    "gcp": "Kubernetes removed it in 1.26; use the exec plugin gke-gcloud-auth-plugin",
    "azure": "Kubernetes removed it in 1.26; use the exec plugin kubelogin",
    "openstack": "Kubernetes removed it; use the exec plugin client-keystone-auth",
}


@dataclass(frozen=True, slots=True)
class _Reading:
    """For whom entries are read: relative paths are meant in folder; attended says that a person is at the terminal."""

    folder: Path = Path()
    attended: bool = False


def _reading(info: ValidationInfo) -> _Reading:
    return info.context if isinstance(info.context, _Reading) else _Reading()


def _absolute(path: str, info: ValidationInfo) -> str:
    return str(_reading(info).folder / path) if path else ""


def _decoded(text: object) -> object:
    try:
        return base64.b64decode("".join(text.split()), validate=True) if isinstance(text, str) else text
    except (binascii.Error, ValueError):
        raise ValueError("is not Base64") from None


FilePath = Annotated[str, AfterValidator(_absolute)]
Data = Annotated[bytes, BeforeValidator(_decoded)]
Name = Annotated[str, Field(min_length=1)]


class _Entry(BaseModel):
    """Fields of an entry; null is the same as absent. It is printed without what is in it."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", alias_generator=lambda name: name.strip("_").replace("_", "-")
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, entry: Any) -> Any:
        if not isinstance(entry, dict | None):
            raise ValueError("is not a mapping of fields")  # noqa: TRY004 - pydantic wants ValueError
        return {name: value for name, value in (entry or {}).items() if value is not None}

    def pem(self, name: str) -> bytes:
        """Return what a field says as a file, or as data in the field of that name with _data; raises CannotConnect."""
        data: bytes = getattr(self, f"{name}_data")
        path = getattr(self, name)
        return data or (read(path, name.replace("_", "-")) if path else b"")

    def _file_or_data(self, name: str) -> None:
        if getattr(self, name) and getattr(self, f"{name}_data"):
            alias = name.replace("_", "-")
            raise ValueError(f"{alias} and {alias}-data: which one is meant?")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return iter(())


class _CamelEntry(_Entry):
    model_config = ConfigDict(alias_generator=to_camel)


class ClusterEntry(_Entry):
    """Where requests go. CAs are PEM; without one the system's certificates are trusted."""

    server: str
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    certificate_authority: FilePath = ""
    certificate_authority_data: Data = b""
    proxy_url: str = ""
    disable_compression: bool = False
    extensions: list[Any] = []

    @field_validator("server")
    @classmethod
    def _server(cls, server: str) -> str:
        server = server.rstrip("/")
        try:
            parts = urlsplit(server)
            good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        except ValueError:
            good = False
        if not good:
            raise ValueError("must be http:// or https:// and a host, without user and password")
        return server.partition("?")[0].partition("#")[0]

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        self._file_or_data("certificate_authority")
        if self.insecure_skip_tls_verify and (self.certificate_authority or self.certificate_authority_data):
            raise ValueError("insecure-skip-tls-verify with a certificate-authority: which one is meant?")
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether it is asked over TLS: no credential is sent without."""
        return self.server.startswith("https://")

    @property
    def exec_config(self) -> Any:
        """The extension that goes to an exec plugin."""
        named = (item for item in self.extensions if isinstance(item, dict) and item.get("name") == EXEC_EXTENSION)
        return next((item.get("extension") for item in named), None)


class ExecVariable(_CamelEntry):
    """A variable of a plugin's environment."""

    name: Name
    value: str = ""


class ExecPlugin(_CamelEntry):
    """A program that gives credentials. command is a path, or a name to look for in PATH."""

    command: Name
    args: list[str] = []
    env: list[ExecVariable] = []
    api_version: Literal["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""

    @field_validator("command")
    @classmethod
    def _command(cls, command: str, info: ValidationInfo) -> str:
        return _absolute(command, info) if "/" in command else command

    @model_validator(mode="after")
    def _mode(self, info: ValidationInfo) -> Self:
        needed = self.interactive_mode or self.api_version.endswith("/v1")
        attended = _reading(info).attended
        if needed and self.interactive_mode not in ("Never", "IfAvailable", *(["Always"] if attended else [])):
            raise ValueError(
                f"interactiveMode is {self.interactive_mode!r} and must be Never or IfAvailable: "
                "nobody is at the standard input of this program"
            )
        return self


class Oidc(_Entry):
    """The configuration of an OpenID Connect provider."""

    idp_issuer_url: Annotated[str, Field(pattern="^https://")]
    client_id: Name
    client_secret: str = ""
    idp_certificate_authority: FilePath = ""
    idp_certificate_authority_data: Data = b""
    id_token: str = ""
    refresh_token: str = ""
    extra_scopes: str = ""


class AuthProvider(_Entry):
    """What gives ID tokens."""

    name: str
    config: Oidc

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if name != "oidc":
            why = GONE_PROVIDERS.get(name, "Kubernetes does not know it; use an exec plugin")
            raise ValueError(f"{name!r} is not supported: {why}")
        return name


class User(_Entry):
    """Who we are."""

    client_certificate: FilePath = ""
    client_certificate_data: Data = b""
    client_key: FilePath = ""
    client_key_data: Data = b""
    token: str = ""
    token_file: FilePath = Field(default="", alias="tokenFile")
    as_: str = ""
    as_uid: str = ""
    as_groups: list[str] = []
    as_user_extra: dict[str, list[str]] = {}
    username: str = ""
    password: str = ""
    auth_provider: AuthProvider | None = None
    exec: ExecPlugin | None = None
    extensions: list[Any] = []

    @property
    def impersonation(self) -> tuple[tuple[str, str], ...]:
        """Headers that say as whom we act."""
        headers = [("Impersonate-User", self.as_), ("Impersonate-Uid", self.as_uid)]
        headers += [("Impersonate-Group", group) for group in self.as_groups]
        for key, values in self.as_user_extra.items():
            # As client-go escapes what may not stand in the name of a header.
            name = f"Impersonate-Extra-{quote(key, safe='!#$&*+-.^_`|~' + chr(39))}"
            headers += [(name, value) for value in values]
        return tuple((name, value) for name, value in headers if value)

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        self._file_or_data("client_certificate")
        self._file_or_data("client_key")
        certificate = self.client_certificate or self.client_certificate_data
        if bool(certificate) != bool(self.client_key or self.client_key_data):
            raise ValueError("client-certificate and client-key belong together")
        if (self.token or self.token_file) and (self.username or self.password):
            raise ValueError("a token and a username: which one is meant?")
        if self.auth_provider is not None and self.exec is not None:
            raise ValueError("auth-provider and exec: which one is meant?")
        for name, value in self.impersonation:
            if not value.isprintable():
                raise ValueError(f"{name.lower()} must be a text of printable characters")
        if self.impersonation and not self.as_:
            raise ValueError("as-uid, as-groups and as-user-extra are for a user that as names")
        return self


class ContextEntry(_Entry):
    """Which cluster and which user."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""
    extensions: list[Any] = []


@dataclass(frozen=True, slots=True)
class Context:
    """A context with the cluster and the user that it names."""

    name: str
    cluster: ClusterEntry
    user: User


E = TypeVar("E", bound=_Entry)


def load(kubeconfig: str, context: str = "", *, attended: bool = False) -> Context:
    """Return a context of the files that kubeconfig lists, the current one by default; raises CannotConnect. Blocks.

    attended says that a person is at the terminal, whom plugins may ask.
    """
    paths = [Path(path).expanduser().absolute() for path in kubeconfig.split(os.pathsep) if path]
    files = {path: content for path in paths if (content := _read(path)) is not None}
    if not files:
        raise CannotConnect("no such file")
    current = next((text for content in files.values() if (text := content.get("current-context"))), "")
    name = context or current
    if not isinstance(name, str) or not name:
        raise CannotConnect("no context is chosen: set current-context (kubectl config use-context NAME)")
    contexts, clusters, users = (_merged(files, kind) for kind in ("context", "cluster", "user"))
    chosen = _entry(ContextEntry, contexts, "context", name, "current-context")
    by = f'context "{name}"'
    cluster = _entry(ClusterEntry, clusters, "cluster", chosen.cluster, by)
    user = _entry(User, users, "user", chosen.user, by, attended=attended) if chosen.user else User()
    return Context(name, cluster, user)


def _read(path: Path) -> Any:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotConnect(f"{path}: cannot be read ({error.strerror})") from error
    try:
        content = yamltree.load(text)
    except yamltree.BadYaml as error:
        # Without its text: a password that begins with ! is a tag, and stands in it.
        raise CannotConnect(f"{path}, line {error.line}: is not YAML that can be used") from None
    if content is not None and not isinstance(content, dict):
        raise CannotConnect(f"{path}: is not a kubeconfig: not a mapping of fields")
    return content or {}


def _merged(files: Mapping[Path, Any], kind: str) -> dict[str, tuple[Path, Any]]:
    merged: dict[str, tuple[Path, Any]] = {}
    for path, content in files.items():
        entries = content.get(f"{kind}s")
        if not isinstance(entries, list | None):
            raise CannotConnect(f"{path}: {kind}s must be a list")
        found: dict[str, tuple[Path, Any]] = {}
        for entry in entries or ():
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                raise CannotConnect(f"{path}: each entry of {kind}s must have a name, which is a text")
            if name in found:
                raise CannotConnect(f'{path}: there are two entries "{name}" in {kind}s')
            found[name] = path, entry.get(kind)
        merged = found | merged
    return merged


def _entry(
    model: type[E],
    entries: Mapping[str, tuple[Path, Any]],
    kind: str,
    name: str,
    by: str,
    *,
    attended: bool = False,
) -> E:
    """Return an entry, checked; raises CannotConnect, which names file, entry and field."""
    if not name:
        raise CannotConnect(f"{by} names no {kind}")
    if name not in entries:
        raise CannotConnect(f'there is no {kind} "{name}", which {by} names')
    path, entry = entries[name]
    try:
        return model.model_validate(entry, context=_Reading(path.parent, attended))
    except ValidationError as error:
        words = problem(error)
    if words.endswith("is not known"):
        words += "; it could change who we are or where requests go: remove it, or correct its name"
    raise CannotConnect(f'{path}: {kind} "{name}": {words}')
