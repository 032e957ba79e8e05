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
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import orjson
import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kubeaccess.access import CannotConnect
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


async def run(plugin: ExecPlugin, cluster: ClusterEntry, ca: bytes) -> Credential:
    """Run a plugin and return what it gave; raises CannotConnect. ca is the cluster's CA, as PEM.

    To be bounded by the caller; the plugin and what it started are killed when this is cancelled.
    """
    environment = os.environ | {variable.name: variable.value for variable in plugin.env}
    environment["KUBERNETES_EXEC_INFO"] = _info(plugin, cluster, ca)
    starting = asyncio.create_task(_start(plugin, environment), name=f"start {plugin.command}")
    try:
        process = await asyncio.shield(starting)
    except OSError as error:
        raise _failed(plugin, f"cannot be run ({error.strerror})") from error
    except asyncio.CancelledError:
        # A start that is cancelled itself kills the plugin, and not what that has started meanwhile.
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise
    try:
        output, said = await asyncio.gather(*(_all(process, stream) for stream in (process.stdout, process.stderr)))
        code = await process.wait()
    finally:
        if process.returncode is None:
            await _end(process)
    if len(output) > LARGEST_OUTPUT or len(said) > LARGEST_OUTPUT:
        raise _failed(plugin, f"prints more than {LARGEST_OUTPUT} bytes")
    words = said.decode(errors="replace").strip()[-SHOWN:]
    if code != 0:
        raise _failed(plugin, f"ended with exit code {code}: {words or 'it says nothing'}")
    if words:
        log.info("the exec plugin says", plugin=plugin.command, text=words)
    return _credential(plugin, output)


async def _start(plugin: ExecPlugin, environment: Mapping[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        plugin.command,
        *plugin.args,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    _kill(process)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAPED_WITHIN):
            # Read to their ends, its pipes are closed.
            await process.communicate()


def _info(plugin: ExecPlugin, cluster: ClusterEntry, ca: bytes) -> str:
    """Return what a plugin gets to know, as JSON for KUBERNETES_EXEC_INFO."""
    spec: dict[str, Any] = {"interactive": False}
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


async def _all(process: Process, stream: asyncio.StreamReader | None) -> bytes:
    """Return what a process prints; one that prints more than it may is killed."""
    taken = bytearray()
    while stream is not None and (part := await stream.read(65536)):
        if len(taken) <= LARGEST_OUTPUT:
            taken += part
        else:
            _kill(process)
    return bytes(taken)


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _failed(plugin: ExecPlugin, problem: str) -> CannotConnect:
    hint = "".join(c if c.isprintable() else " " for c in plugin.install_hint)
    return CannotConnect(f"exec plugin {plugin.command}: {problem}" + (f"; {' '.join(hint.split())}" if hint else ""))
