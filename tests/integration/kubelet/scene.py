"""A kubelet API in this process, its cluster and its callers."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme
from prometheus_client import REGISTRY

from controlplane.access.reviews import Reviewer
from controlplane.app.clock import SystemClock
from controlplane.app.ports import ClusterError
from controlplane.cluster import reading
from controlplane.cluster.api import NODES, PODS, Json, ObjectList, PodStreams, Resource
from controlplane.cluster.informer import BoundPodInformer, ObjectInformer
from controlplane.domain.base.usage import Usage
from controlplane.kubelet import api as api_routes
from controlplane.kubelet.access import KubeletAccess
from controlplane.kubelet.logs import ModuleLogs
from controlplane.kubelet.logsource import LogSource
from controlplane.kubelet.lookup import Lookup
from controlplane.kubelet.nodes import NodeAnswers
from controlplane.kubelet.server import BOUNDS, KubeletServer
from controlplane.kubelet.shown import from_files
from controlplane.kubelet.streams import ModuleStreams
from service.tls import Files, PemFile
from service.webserver import Bounds
from tests.fakes.reviews import Reviews

PATH = "/containerLogs/modules/biz1/biz1"


MODULE = "virtual-kubelet.koupleless.io/component"


PIECE = b"x" * 65_536


class Api(Reviews):
    """Selects Pods by name and address besides."""

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        from_memory: bool = False,
    ) -> ObjectList:
        if self.error is not None:
            raise self.error
        listed = await super().list(resource, namespace=namespace, label_selector=label_selector)
        field, _, value = field_selector.partition("=")
        part, _, name = field.partition(".")
        return replace(listed, items=tuple(obj for obj in listed.items if not field or obj[part].get(name) == value))


class Source:
    """A log: its pieces, then the last one repeated without end if endless, then an error if there is one."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = [b"one\n", b"two\n"]
        self.endless = False
        self.quiet = False
        self.refuses: ClusterError | None = None
        self.breaks: ClusterError | None = None
        self.asked: list[dict[str, str]] = []
        self.open = 0
        self.given = 0

    @asynccontextmanager
    async def pod_log(
        self, namespace: str, name: str, options: Mapping[str, str], *, idle: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        assert (namespace, name) == ("bases", "shop-0")
        assert (idle is None) is ("follow" in options)
        self.asked.append(dict(options))
        if self.refuses is not None:
            raise self.refuses
        self.open += 1
        try:
            yield self._read()
        finally:
            self.open -= 1

    async def _read(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        while self.endless:
            self.given += len(PIECE)
            yield PIECE
            await asyncio.sleep(0)
        if self.quiet:
            await asyncio.sleep(3600)
        if self.breaks is not None:
            raise self.breaks


class Authority:
    """A CA, and files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca = folder, trustme.CA()
        folder.mkdir()
        self.ca.cert_pem.write_to_path(str(folder / "ca.crt"))
        self.renew()

    @property
    def files(self) -> Files:
        names = {"CRT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}
        crt, key, ca = (PemFile(variable, str(self.folder / name)) for variable, name in names.items())
        return Files(crt, key, ca, otherwise="do without")

    def spoil(self, *, remove: bool = False) -> None:
        """Make the certificate's file useless, or take it away."""
        path = Path(self.files.crt.path)
        path.write_text("rubbish")
        if remove:
            path.unlink()

    def renew(self) -> None:
        leaf = self.ca.issue_cert("127.0.0.1", "::1")
        leaf.cert_chain_pems[0].write_to_path(self.files.crt.path)
        leaf.private_key_pem.write_to_path(self.files.key.path)

    def client(self, *, user: str = "", of: trustme.CA | None = None) -> ssl.SSLContext:
        """Return what a client needs that trusts this CA and shows a certificate of it, or of another one."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if user:
            (of or self.ca).issue_cert("client.test", common_name=user).configure_cert(context)
        return context


class Usages:
    """What bases use, as the test says."""

    def __init__(self) -> None:
        self.known: dict[str, Usage] = {}

    async def of(self, node: str) -> Usage | None:
        return self.known.get(node)


@dataclass
class Scene:
    server: KubeletServer
    source: Source
    api: Reviews
    authority: Authority
    usages: Usages
    logs: ModuleLogs
    connections: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(
        self, tls: ssl.SSLContext | None = None, *, to: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = tls or self.authority.client(user="ann")
        reader, writer = await asyncio.open_connection(to, self.server.port, ssl=tls, limit=1 << 20)
        self.connections.append(writer)
        return reader, writer

    async def send(self, head: bytes, tls: ssl.SSLContext | None = None) -> tuple[int, bytes, bytes]:
        """Return status, head and body of what is answered until the server ends the connection."""
        reader, writer = await self.connect(tls)
        try:
            writer.write(head)
            async with asyncio.timeout(20):
                answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        answer_head, _, body = answer.partition(b"\r\n\r\n")
        return int(answer_head.split()[1]), answer_head, body

    async def get(
        self, path: str = PATH, *, tls: ssl.SSLContext | None = None, token: str = ""
    ) -> tuple[int, bytes, bytes]:
        return await self.send(request(path, token=token), tls)


def request(path: str = PATH, *, token: str = "", more: str = "", method: str = "GET") -> bytes:
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{bearer}{more}\r\n".encode("latin-1")


def pod_of(namespace: str, name: str, node: str, container: str, ip: str, **labels: str) -> Json:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": container}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


@asynccontextmanager
async def running(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    bounds: Bounds = BOUNDS,
    streams: PodStreams | None = None,
    elsewhere: LogSource | None = None,
) -> AsyncIterator[Scene]:
    api, source, authority = Api(("ann", "nodes/proxy", "vnode.b1.dev")), Source(), Authority(folder / "pki")
    annotations = {"base.koupleless.io/address": "10.0.0.7:1238"}
    labels = {MODULE: "vnode", "base.koupleless.io/host-name": "shop-0"}
    api.put(NODES, {"metadata": {"name": "vnode.b1.dev", "labels": labels, "annotations": annotations}})
    api.put(PODS, pod_of("modules", "biz1", "vnode.b1.dev", "biz1", "10.0.0.7", **{MODULE: "module"}))
    base = pod_of("bases", "shop-0", "worker", "base", "10.0.0.7")
    base["metadata"]["annotations"] = {"base.koupleless.io/exec-from": "modules"}
    api.put(PODS, base)
    clock = SystemClock()
    pods = BoundPodInformer(api, PODS, reading.pod, selector=f"{MODULE}=module", clock=clock)
    nodes = ObjectInformer(api, NODES, reading.node, selector=f"{MODULE}=vnode", clock=clock)
    access = KubeletAccess(Reviewer(api))
    lookup = Lookup(pods, nodes, access, api, "default")
    logs = ModuleLogs(lookup, source, elsewhere)
    led = ModuleStreams(lookup, streams) if streams is not None else None
    server = KubeletServer(
        host=host,
        port=0,
        shown=from_files(authority.files),
        access=access,
        look_every=0.1,
        bounds=bounds,
    )
    await server.start()
    usages = Usages()
    answers = NodeAnswers(nodes, pods, access, api, usages, clock)
    async with asyncio.TaskGroup() as group:
        parts = (pods.run(), nodes.run(), server.run(api_routes.routes(logs, answers, led)))
        tasks = [group.create_task(part) for part in parts]
        while not (pods.synced and nodes.synced):  # noqa: ASYNC110 - informers have no event for it
            await asyncio.sleep(0.01)
        scene = Scene(server, source, api, authority, usages, logs)
        try:
            yield scene
        finally:
            # What a failed test leaves open is another test's failure.
            for writer in scene.connections:
                with contextlib.suppress(AttributeError):  # of a closed one, with early releases of Python 3.11
                    writer.transport.abort()
            for task in tasks:
                task.cancel()
    await server.stop()


def count(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


def refused(reason: str) -> float:
    return count("koupleless_listener_refused_total", listener="kubelet", reason=reason)


async def soon(what: str, look: object, within: float = 60.0) -> None:
    assert callable(look)
    deadline = asyncio.get_running_loop().time() + within
    while not look():
        assert asyncio.get_running_loop().time() < deadline, f"not soon: {what}"
        await asyncio.sleep(0.02)
