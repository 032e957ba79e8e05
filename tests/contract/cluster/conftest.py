"""The two API servers under one suite: embedded, and Kubernetes where its programs are available.

CONTRACT_KUBECONFIG names a kubeconfig of an expendable cluster, which is used instead of starting one.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from controlplane.app.clock import SystemClock
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import ApiServer
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.kube.client import KubeApiServer
from tests.servers.cleaning import SYSTEM_NAMESPACE

WATCH_TIMEOUT = 10.0
"""Seconds within which a watch must have sent a change."""


@dataclass(frozen=True)
class Servers:
    """One cluster, as its administrator sees it and as the control plane does."""

    kind: str
    admin: ApiServer
    control_plane: ApiServer


@pytest.fixture(params=["embedded", pytest.param("kubernetes", marks=pytest.mark.kubernetes)])
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    opened = _embedded() if request.param == "embedded" else _kubernetes(request)
    async with opened as servers:
        yield servers


@asynccontextmanager
async def _embedded() -> AsyncIterator[Servers]:
    api = await EmbeddedApiServer.open(":memory:")
    try:
        yield Servers("embedded", api, api)
    finally:
        await api.close()


@asynccontextmanager
async def _kubernetes(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    given = os.environ.get("CONTRACT_KUBECONFIG", "")
    if given:
        paths = [given, given]
    else:
        kube = request.getfixturevalue("kube_cluster")
        paths = [str(kube.kubeconfig("admin")), str(kube.kubeconfig("controlplane"))]
    admin, control_plane = [await KubeApiServer.connect(path) for path in paths]
    try:
        yield Servers("kubernetes", admin, control_plane)
    finally:
        await admin.close()
        await control_plane.close()


@pytest.fixture
def api(servers: Servers) -> ApiServer:
    return servers.admin


@pytest.fixture
def unique() -> str:
    """A string that no other test has in its names and labels."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
async def cluster(servers: Servers, unique: str) -> AsyncIterator[ApiCluster]:
    """The control plane's cluster, for an environment of this test's own."""
    cluster = ApiCluster(
        servers.control_plane, env=unique, kind=servers.kind, clock=SystemClock(), namespace=SYSTEM_NAMESPACE
    )
    running = asyncio.create_task(cluster.run())
    await eventually(lambda: cluster.trouble() is None)
    yield cluster
    running.cancel()
    await asyncio.wait([running])


async def eventually(true: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(WATCH_TIMEOUT):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
