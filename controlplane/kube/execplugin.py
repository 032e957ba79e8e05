"""Exec plugins: programs that print credentials (client.authentication.k8s.io v1 and v1beta1).

Source: client-go, plugin/pkg/client/auth/exec; the Kubernetes documentation, page
"Authenticating", section "client-go credential plugins".
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import structlog

from controlplane.kube.access import CannotConnect
from controlplane.kube.kubeconfig import Cluster, ExecPlugin

log = structlog.get_logger(__name__)

LARGEST_OUTPUT = 1024 * 1024
"""Bytes that a plugin may print."""
REAPED_WITHIN = 2.0
"""Seconds for which a killed plugin's end is awaited."""
SHOWN = 500
"""Characters of what a plugin says on standard error that a message has."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a plugin gave: a token, a certificate with its key (PEM), or both. ends_at is in seconds since the epoch."""

    token: str = ""
    certificate: bytes = b""
    key: bytes = b""
    ends_at: float | None = None

    def __repr__(self) -> str:
        return "Credential()"


async def run(plugin: ExecPlugin, cluster: Cluster, ca: bytes) -> Credential:
    """Run a plugin and return what it gave; raises CannotConnect. ca is the cluster's CA, as PEM.

    To be bounded by the caller; the plugin and what it started are killed when this is cancelled.
    """
    environment = {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": info(plugin, cluster, ca)}
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise CannotConnect(_hinted(plugin, f"cannot be run ({error.strerror})")) from error
    try:
        output, said = await asyncio.gather(_all(process, process.stdout), _all(process, process.stderr))
        code = await process.wait()
    finally:
        if process.returncode is None:
            _kill(process)
            # Pipes close at their end only, which comes with the death of all that the plugin started.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REAPED_WITHIN):
                    await process.communicate()
    if max(len(output), len(said)) > LARGEST_OUTPUT:
        raise CannotConnect(f"the exec plugin prints more than {LARGEST_OUTPUT} bytes")
    words = said.decode(errors="replace").strip()[-SHOWN:]
    if code != 0:
        raise CannotConnect(_hinted(plugin, f"ended with exit code {code}: {words or 'it says nothing'}"))
    if words:
        log.info("the exec plugin says", plugin=plugin.command, text=words)
    return read(plugin, output)


def info(plugin: ExecPlugin, cluster: Cluster, ca: bytes) -> str:
    """Return what a plugin gets to know, as JSON for KUBERNETES_EXEC_INFO."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.gets_cluster:
        told = {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": cluster.insecure,
            "certificate-authority-data": base64.b64encode(ca).decode(),
            "proxy-url": cluster.proxy_url,
            "disable-compression": not cluster.compressed,
            "config": cluster.exec_config,
        }
        spec["cluster"] = {name: value for name, value in told.items() if value}
    return orjson.dumps({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}).decode()


def read(plugin: ExecPlugin, output: bytes) -> Credential:
    """Return the credential that a plugin printed; raises CannotConnect."""
    try:
        told = orjson.loads(output)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict) or told.get("kind") != "ExecCredential":
        raise CannotConnect(f"exec plugin {plugin.command}: printed no ExecCredential")
    if told.get("apiVersion") != plugin.api_version:
        version = str(told.get("apiVersion"))[:100]
        raise CannotConnect(f"exec plugin {plugin.command}: printed {version} instead of {plugin.api_version}")
    status = told.get("status")
    given = status if isinstance(status, dict) else {}
    token, certificate, key = (_text(given, name) for name in ("token", "clientCertificateData", "clientKeyData"))
    if bool(certificate) != bool(key):
        raise CannotConnect(f"exec plugin {plugin.command}: gave a certificate or a key, not both")
    if not token and not certificate:
        raise CannotConnect(f"exec plugin {plugin.command}: gave neither a token nor a certificate and key")
    ends_at = _ends_at(plugin, _text(given, "expirationTimestamp"))
    return Credential(token, certificate.encode(), key.encode(), ends_at)


def _ends_at(plugin: ExecPlugin, text: str) -> float | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise CannotConnect(f"exec plugin {plugin.command}: expirationTimestamp is no RFC 3339 time: {text[:100]}")
    return moment.timestamp()


async def _all(process: asyncio.subprocess.Process, stream: asyncio.StreamReader | None) -> bytes:
    """Read to the end; a plugin that prints too much is killed, and the rest is passed over."""
    taken = bytearray()
    while stream is not None and (part := await stream.read(65536)):
        if len(taken) <= LARGEST_OUTPUT:
            taken += part
        else:
            _kill(process)
    return bytes(taken)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _hinted(plugin: ExecPlugin, problem: str) -> str:
    hint = f"; {' '.join(plugin.install_hint.split())}" if plugin.install_hint else ""
    return f"exec plugin {plugin.command}: {problem}{hint}"


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    return value if isinstance(value, str) else ""
