"""Exec plugins: programs that print credentials (client.authentication.k8s.io v1 and v1beta1).

The official client's way of running them bounds neither their time nor their output, and leaves them behind.

Source: client-go, plugin/pkg/client/auth/exec; the Kubernetes documentation, page "Authenticating", section "client-go
credential plugins".
"""

import asyncio
import base64
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson
import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kubeaccess.authorization import CannotConnect
from kubeaccess.kubeconfig import ClusterEntry, ExecPlugin
from service.wording import problem

log = structlog.get_logger(__name__)

LARGEST_OUTPUT = 1024 * 1024
"""Bytes that a plugin may print."""
REAPED_WITHIN = 2.0
"""Seconds for which a killed plugin's end is awaited."""
SHOWN = 500
"""Characters of what a plugin says on standard error that a message has."""


class Credential(BaseModel):
    """What a plugin gave: a token, a certificate with its key (PEM), or both. It is printed without them."""

    model_config = ConfigDict(strict=True)

    token: str | None = None
    certificate: bytes | None = Field(None, alias="clientCertificateData")
    key: bytes | None = Field(None, alias="clientKeyData")
    expires: AwareDatetime | None = Field(None, alias="expirationTimestamp")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("has a certificate or a key, not both")
        if not self.token and not self.certificate:
            raise ValueError("has neither a token nor a certificate and key")
        return self

    @property
    def ends_at(self) -> float | None:
        """When it ends, in seconds since the epoch."""
        return self.expires.timestamp() if self.expires is not None else None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return iter(())


class _Output(BaseModel):
    model_config = ConfigDict(strict=True)

    kind: Literal["ExecCredential"]
    version: str = Field(alias="apiVersion")
    status: Credential


@dataclass(frozen=True, slots=True)
class _Running:
    """A plugin that runs, in a process group of its own unless it asks at our terminal."""

    process: Process
    own_group: bool

    async def all(self, stream: asyncio.StreamReader | None) -> bytes:
        """Return what it prints; one that prints more than it may is killed."""
        taken = bytearray()
        while stream is not None and (part := await stream.read(65536)):
            if len(taken) <= LARGEST_OUTPUT:
                taken += part
            else:
                self.kill()
        return bytes(taken)

    async def end(self) -> None:
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAPED_WITHIN):
                # Read to their ends, its pipes are closed.
                await self.process.communicate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.own_group:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()


async def run(plugin: ExecPlugin, cluster: ClusterEntry, ca: bytes, *, attended: bool = False) -> Credential:
    """Run a plugin and return what it gave; raises CannotConnect. ca is the cluster's CA, as PEM.

    To be bounded by the caller; the plugin is killed when this is cancelled, with what it started. attended: a person
    is at our terminal, so that the plugin may ask there and shows what it says; it stays in our process group for that.
    """
    asks = attended and plugin.interactive_mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
    if plugin.interactive_mode == "Always" and not asks:
        raise _failed(plugin, "interactiveMode is Always, and standard input is no terminal")
    environment = os.environ | {variable.name: variable.value for variable in plugin.env}
    environment["KUBERNETES_EXEC_INFO"] = _info(plugin, cluster, ca, interactive=asks)
    starting = asyncio.create_task(
        _start(plugin, environment, asks=asks, shown=attended), name=f"start {plugin.command}"
    )
    try:
        running = await asyncio.shield(starting)
    except OSError as error:
        raise _failed(plugin, f"cannot be run ({error.strerror})") from error
    except asyncio.CancelledError:
        # A start that is cancelled itself kills the plugin, and not what that has started meanwhile.
        with contextlib.suppress(OSError):
            await (await starting).end()
        raise
    process = running.process
    try:
        output, said = await asyncio.gather(running.all(process.stdout), running.all(process.stderr))
        code = await process.wait()
    finally:
        if process.returncode is None:
            await running.end()
    if len(output) > LARGEST_OUTPUT or len(said) > LARGEST_OUTPUT:
        raise _failed(plugin, f"prints more than {LARGEST_OUTPUT} bytes")
    words = said.decode(errors="replace").strip()[-SHOWN:]
    if code != 0:
        silent = "what it said is above" if attended else "it says nothing"
        raise _failed(plugin, f"ended with exit code {code}: {words or silent}")
    if words:
        log.info("the exec plugin says", plugin=plugin.command, text=words)
    return _credential(plugin, output)


async def _start(plugin: ExecPlugin, environment: Mapping[str, str], *, asks: bool, shown: bool) -> _Running:
    process = await asyncio.create_subprocess_exec(
        plugin.command,
        *plugin.args,
        env=environment,
        stdin=None if asks else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=None if shown else asyncio.subprocess.PIPE,
        # A terminal lets only the session that it is of ask there.
        start_new_session=not asks,
    )
    return _Running(process, own_group=not asks)


def _info(plugin: ExecPlugin, cluster: ClusterEntry, ca: bytes, *, interactive: bool) -> str:
    """Return what a plugin gets to know, as JSON for KUBERNETES_EXEC_INFO."""
    spec: dict[str, Any] = {"interactive": interactive}
    if plugin.provide_cluster_info:
        left_out = {"certificate_authority", "certificate_authority_data", "extensions"}
        known = {"certificate-authority-data": base64.b64encode(ca).decode(), "config": cluster.exec_config}
        described = cluster.model_dump(by_alias=True, exclude=left_out) | known
        spec["cluster"] = {name: value for name, value in described.items() if value}
    return orjson.dumps({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}).decode()


def _credential(plugin: ExecPlugin, output: bytes) -> Credential:
    try:
        printed = _Output.model_validate_json(output)
    except ValidationError as error:
        raise _failed(plugin, f"printed no ExecCredential that can be used: {problem(error)}") from None
    if printed.version != plugin.api_version:
        raise _failed(plugin, f"printed {printed.version[:100]} instead of {plugin.api_version}")
    return printed.status


def _failed(plugin: ExecPlugin, problem: str) -> CannotConnect:
    hint = "".join(c if c.isprintable() else " " for c in plugin.install_hint)
    return CannotConnect(f"exec plugin {plugin.command}: {problem}" + (f"; {' '.join(hint.split())}" if hint else ""))
