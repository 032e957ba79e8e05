"""Questions to the API server for the checks: as the control plane connects, without retries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from controlplane.kube.credentials import Access, CannotConnect, ConfiguredCredentials
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
    """Asks the API server."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self.access = access
        self._session = session

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Return the answer to a GET, or to a POST of a body; raises NoAnswer."""
        access = self.access
        headers = {"Authorization": access.authorization} if access.authorization else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                "GET" if body is None else "POST",
                access.host + path,
                data=None if body is None else orjson.dumps(body),
                headers=headers,
                ssl=access.tls if access.tls is not None else True,
                server_hostname=access.server_name,
                proxy=access.proxy,
                allow_redirects=False,
            ) as response:
                text = await response.read()
                return Answer(response.status, response.headers, _object(text))
        except aiohttp.ClientConnectorCertificateError as failed:
            cause = f"{access.host}: its certificate is not good: {failed.certificate_error}"
            raise NoAnswer(cause, "give the right CA (certificate-authority) in the kubeconfig") from failed
        except (aiohttp.ClientError, OSError, TimeoutError) as failed:
            cause = str(failed) or f"no answer within {REQUEST_TIME:g} s"
            fix = "start it, or correct KUBECONFIG; from a Pod, look at NetworkPolicies and at the Service kubernetes"
            raise NoAnswer(f"{access.host}: {cause}", fix) from failed


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
    credentials = ConfiguredCredentials(settings.kubeconfig)
    try:
        access = await credentials.access()
    except CannotConnect as failed:
        fix = "name a good kubeconfig with KUBECONFIG, run in a Pod with a service account, or set CLUSTER=embedded"
        raise NoAnswer(str(failed), fix) from failed
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIME)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Api(access, session)


def _object(text: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        told = None
    return told if isinstance(told, dict) else {"message": text[:200].decode(errors="replace").strip()}
