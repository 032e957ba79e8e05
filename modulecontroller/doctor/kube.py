"""Questions to the API server for the checks: as the control plane connects, without retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from controlplane.kube.access import CannotConnect
from controlplane.kube.connections import Connections
from controlplane.kube.credentials import Credentials
from controlplane.kube.transport import failure
from controlplane.settings import ClusterKind, ControlPlaneSettings
from modulecontroller.configuration import Configuration

REQUEST_TIME = 10.0
"""Seconds for one request, connecting included."""


class NoAnswer(Exception):
    """The API server cannot be asked; the message is the cause, fix what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server answered."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def message(self) -> str:
        """Its words about a failure."""
        return f"{self.body.get('message') or 'no message'} (HTTP {self.status})"


class Api:
    """Asks the API server, as the control plane does."""

    def __init__(self, host: str, connections: Connections) -> None:
        self.host = host
        self._connections = connections

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Return the answer to a GET, or to a POST of a body; raises NoAnswer."""
        data = None if body is None else orjson.dumps(body)
        try:
            async with asyncio.timeout(REQUEST_TIME):
                response = await self._connections.send("GET" if body is None else "POST", path, body=data)
                async with response:
                    return Answer(response.status, response.headers, _object(await response.read()))
        except aiohttp.ClientConnectorCertificateError as failed:
            cause = f"{self.host}: its certificate is not good: {failed.certificate_error}"
            raise NoAnswer(cause, "give the right CA (certificate-authority) in the kubeconfig") from failed
        except (CannotConnect, aiohttp.ClientError, OSError, TimeoutError) as failed:
            fix = "start it, or correct KUBECONFIG; from a Pod, look at NetworkPolicies and at the Service kubernetes"
            raise NoAnswer(f"{self.host}: {failure(failed, REQUEST_TIME)}", fix) from failed


def subject(configuration: Configuration) -> ControlPlaneSettings | str:
    """Return the settings with which Kubernetes is talked to, or why it is not."""
    settings = configuration.of(ControlPlaneSettings)
    if settings is None:
        return configuration.why_not("controlplane")
    if settings.kind is ClusterKind.EMBEDDED:
        return f"the embedded cluster is used (CLUSTER={settings.cluster.value}), not Kubernetes"
    return settings


@asynccontextmanager
async def connect(settings: ControlPlaneSettings) -> AsyncIterator[Api]:
    """Give what asks the API server; raises NoAnswer."""
    credentials = Credentials(settings.kubeconfig)
    connections = Connections(credentials)
    try:
        access = await credentials.access()
        yield Api(access.host, connections)
    except CannotConnect as failed:
        fix = "name a good kubeconfig with KUBECONFIG, run in a Pod with a service account, or set CLUSTER=embedded"
        raise NoAnswer(str(failed), fix) from failed
    finally:
        await connections.close()


def _object(text: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        told = None
    return told if isinstance(told, dict) else {"message": text[:200].decode(errors="replace").strip()}
