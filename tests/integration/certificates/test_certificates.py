"""The certificates of gRPC on a real API server, under the shipped Role."""

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from random import SystemRandom

import pytest
import trustme

from controlplane.app.clock import SystemClock
from controlplane.app.ports import Rejected
from controlplane.certificates.keeper import CertificateKeeper, Place
from controlplane.certificates.reading import Certificates
from controlplane.cluster.api import CONFIG_MAPS, SECRETS, ApiServer
from controlplane.domain.certificates import GRACE, RETIRE, SERVER_NAME
from controlplane.kube.client import KubeApiServer
from tests.servers import manifests
from tests.servers.cluster import KubeCluster, kubectl
from tests.servers.kubeapi import Json
from tests.servers.rbac import SHIPPED

pytestmark = pytest.mark.kubernetes
MANIFEST = SHIPPED.parent / "sharded" / "grpc-certificates.yaml"
NAMESPACE = "koupleless-system"
ACCOUNT = (NAMESPACE, "module-controller")
PLACE = Place(NAMESPACE, "module-controller-grpc-tls", "module-controller-grpc-ca")
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/{PLACE.secret}"
CONFIG_MAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{PLACE.config_map}"
WITHIN = 30.0


class AheadClock(SystemClock):
    """A clock that a test sets forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def wall(self) -> float:
        return super().wall() + self.ahead


class Replicas:
    """Keepers that are users of one kind, on one clock."""

    def __init__(self, cluster: KubeCluster, stack: AsyncExitStack) -> None:
        self.clock = AheadClock()
        self._cluster = cluster
        self._stack = stack

    async def api(self, user: str = "") -> ApiServer:
        """Return the API server as the shipped service account has it, or a user without rights of its own."""
        cluster = self._cluster
        path = cluster.kubeconfig(user) if user else cluster.service_account_kubeconfig(*ACCOUNT)
        api = await KubeApiServer.connect(str(path))
        self._stack.push_async_callback(api.close)
        return api

    async def start(self, count: int = 1, *, user: str = "") -> list[CertificateKeeper]:
        keepers = [CertificateKeeper(await self.api(user), PLACE, self.clock, SystemRandom()) for _ in range(count)]
        for keeper in keepers:
            running = asyncio.create_task(keeper.run())
            self._stack.callback(running.cancel)
        return keepers


def apply(cluster: KubeCluster) -> None:
    for obj in manifests.load(MANIFEST):
        manifests.apply(cluster.api, obj)


@pytest.fixture
def shipped(kube: KubeCluster) -> Iterator[KubeCluster]:
    apply(kube)
    yield kube
    for obj in manifests.load(MANIFEST):
        kube.api.delete(f"{manifests.collection(obj)}/{obj['metadata']['name']}")


@pytest.fixture
async def replicas(shipped: KubeCluster) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        yield Replicas(shipped, stack)


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.05)


def published(cluster: KubeCluster) -> bytes:
    return str(cluster.api.get(CONFIG_MAP)["data"]["ca.crt"]).encode()


async def test_replicas_that_start_at_once_serve_one_certificate(shipped: KubeCluster, replicas: Replicas) -> None:
    keepers = await replicas.start(3)
    await eventually(lambda: all(keeper.current for keeper in keepers))
    (served,) = {keeper.current for keeper in keepers}
    assert served is not None
    assert served.ca_pem == published(shipped)
    assert len(Certificates.read(served.ca_pem).parsed) == 1
    assert sorted(shipped.api.get(SECRET)["data"]) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]


async def test_applying_the_manifest_again_changes_nothing(shipped: KubeCluster, replicas: Replicas) -> None:
    def kubectl_apply() -> None:
        command = [str(kubectl()), "--kubeconfig", str(shipped.kubeconfig()), "apply", "-f", str(MANIFEST)]
        subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    await asyncio.to_thread(kubectl_apply)
    (keeper,) = await replicas.start()
    await eventually(lambda: keeper.current)
    before = shipped.api.get(SECRET)["data"], published(shipped)
    await asyncio.to_thread(kubectl_apply)
    assert (shipped.api.get(SECRET)["data"], published(shipped)) == before


async def test_a_ca_is_replaced_after_it_was_published(shipped: KubeCluster, replicas: Replicas) -> None:
    (keeper,) = await replicas.start()
    await eventually(lambda: keeper.current)
    before = keeper.current
    replicas.clock.ahead += 8.6 * 365 * 86400
    (late,) = await replicas.start()
    await eventually(lambda: len(Certificates.read(published(shipped)).parsed) == 2)
    assert "next-ca.key" in shipped.api.get(SECRET)["data"]
    replicas.clock.ahead += GRACE
    for _ in range(2):
        await late.look()
    assert late.current is not None
    assert before is not None
    assert late.current.crt_pem != before.crt_pem
    assert "next-ca.key" not in shipped.api.get(SECRET)["data"]
    replicas.clock.ahead += RETIRE
    await late.look()
    assert len(Certificates.read(published(shipped)).parsed) == 1


async def test_what_is_missing_is_named_until_it_is_there(shipped: KubeCluster, replicas: Replicas) -> None:
    shipped.api.delete(SECRET)
    (keeper,) = await replicas.start()
    await eventually(lambda: "there is no Secret koupleless-system/module-controller-grpc-tls" in str(keeper.trouble()))
    apply(shipped)
    await eventually(lambda: keeper.current)


async def test_without_the_role_it_says_so(replicas: Replicas) -> None:
    (keeper,) = await replicas.start(user="nobody")
    await eventually(lambda: "forbidden" in str(keeper.trouble()))
    assert "has the Role" in str(keeper.trouble())


async def test_a_secret_of_cert_manager_is_served_and_never_written(shipped: KubeCluster, replicas: Replicas) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert(SERVER_NAME)
    parts = {"tls.crt": leaf.cert_chain_pems[0], "tls.key": leaf.private_key_pem, "ca.crt": authority.cert_pem}
    data = {name: base64.b64encode(part.bytes()).decode() for name, part in parts.items()}
    shipped.api.delete(SECRET)
    theirs: Json = {"metadata": {"name": PLACE.secret}, "type": "kubernetes.io/tls", "data": data}
    created = shipped.api.create(f"/api/v1/namespaces/{NAMESPACE}/secrets", theirs)
    (keeper,) = await replicas.start()
    await eventually(lambda: keeper.current)
    replicas.clock.ahead += 3 * GRACE
    await keeper.look()
    assert published(shipped) == authority.cert_pem.bytes()
    assert shipped.api.get(SECRET) == created


async def test_the_role_is_for_these_two_objects_alone(shipped: KubeCluster, replicas: Replicas) -> None:
    other: Json = {"metadata": {"name": "other", "namespace": NAMESPACE}}
    control_plane, stranger = await replicas.api(), await replicas.api("stranger")
    for api, resource, name in (
        (control_plane, SECRETS, "other"),
        (control_plane, CONFIG_MAPS, "other"),
        (stranger, SECRETS, PLACE.secret),
        (stranger, CONFIG_MAPS, "other"),
    ):
        with pytest.raises(Rejected, match="forbidden"):
            await api.get(resource, name, NAMESPACE)
        with pytest.raises(Rejected, match="forbidden"):
            await api.create(resource, resource.manifest(other["metadata"]), NAMESPACE)
        with pytest.raises(Rejected, match="forbidden"):
            await api.delete(resource, name, namespace=NAMESPACE)
        with pytest.raises(Rejected, match="forbidden"):
            await api.list(resource, namespace=NAMESPACE)
    assert await stranger.get(CONFIG_MAPS, PLACE.config_map, NAMESPACE)
    with pytest.raises(Rejected, match="forbidden"):
        await stranger.patch(CONFIG_MAPS, PLACE.config_map, {"data": {"ca.crt": ""}}, namespace=NAMESPACE)
