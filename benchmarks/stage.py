"""The stage of all measurements: a real API server with its controllers, a control plane, a gateway, bases.

The control plane runs under the shipped roles. All are processes on loopback, so that each one's CPU time and memory
can be metrics.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import exposition, trusted, usage
from benchmarks.api import Api, connected, tls
from benchmarks.bases import IDENTITY
from benchmarks.exposition import Exposition
from benchmarks.progress import say
from grpcclient.access import ClientAccess
from tests.programs import ControlPlane, HttpGateway, Programs, status
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.cluster import ADMIN, CONTROL_PLANE, KubeCluster
from tests.servers.kubeapi import Json
from tests.servers.process import Server

NODES, PODS = "/api/v1/nodes", "/api/v1/namespaces/default/pods"
ROOT = Path(__file__).parents[1]
"""Measuring programs are not installed."""
STARTED_WITHIN = 60.0
CLUSTER_PROGRAMS = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Stage:
    """Everything runs; no base has begun. pids are by the name under which a process is reported."""

    bases: int
    kubernetes: str
    pids: dict[str, int]
    cluster_root: str
    kubeconfig: Path
    metrics: dict[str, str]
    bases_root: str
    audited: Callable[[], list[Json]]
    """What the control plane asked of the API server, as its audit log has it; empty unless it is kept."""
    replicas: Mapping[str, ControlPlane]
    add_replica: Callable[[str], ControlPlane]
    """Starts one more control plane, of that name, and waits until it is ready."""
    tool: ClientAccess
    """How a tool connects to the control plane."""


@dataclass(frozen=True)
class Line:
    """Connections to the stage: api server, interface of the bases."""

    stage: Stage
    kube: Api
    fleet: Api
    _programs: dict[str, Api]

    async def metrics(self, program: str = "control plane") -> Exposition:
        """Return what a program gives on /metrics."""
        return exposition.parse(await self._programs[program].text("/metrics"))

    def usage(self) -> dict[str, usage.Usage]:
        """Return what each process uses."""
        return usage.snapshot(self.stage.pids)


@contextmanager
def stage(
    bases: int, logs: Path | None = None, *, audit: bool = False, replicas: int = 1, tls: bool = False
) -> Iterator[Stage]:
    """Build it, and take it down; logs of our programs stay in a folder if one is given.

    With audit the API server keeps a log of what the control plane asks for, which makes it slower. With tls the
    gateway speaks TLS and shows a token of its service account, else plaintext and a token of this machine.

    Raises Unavailable, ServerFailed, ApiError, OSError.
    """
    say("starting etcd, API server, controllers")
    with (
        KubeCluster(audit=audit) as cluster,
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        Programs(logs or Path(folder)) as programs,
    ):
        cluster.apply_rbac()
        version = cluster.version
        say(f"starting control plane, gateway and the process of {bases} bases; Kubernetes {version}")
        trust = trusted.tls(cluster, Path(folder)) if tls else trusted.plaintext(programs.folder)

        def add_replica(name: str) -> ControlPlane:
            return ControlPlane(
                programs,
                name,
                CLUSTER="kubernetes",
                NAMESPACE=SYSTEM_NAMESPACE,
                IS_CLUSTER="true",
                KUBECONFIG=str(cluster.kubeconfig(CONTROL_PLANE)),
                **trust.control_plane,
            ).start()

        all_replicas = {f"cp-{number}": add_replica(f"cp-{number}") for number in range(replicas)}
        control_plane = all_replicas["cp-0"]
        addresses = ",".join(replica.address for replica in all_replicas.values())
        gateway = HttpGateway(programs, addresses, **trust.gateway).start()
        fleet, root = start_bases(programs, gateway, bases)
        ours = {"control plane": control_plane.server.pid, "gateway": gateway.server.pid, "bases": fleet.pid}
        others = usage.children(os.getpid())
        yield Stage(
            bases=bases,
            kubernetes=version,
            pids=ours | {name: others[name] for name in CLUSTER_PROGRAMS},
            cluster_root=cluster.url,
            kubeconfig=cluster.kubeconfig(ADMIN),
            metrics={
                "control plane": f"http://127.0.0.1:{control_plane.metrics}",
                **{name: f"http://127.0.0.1:{replica.metrics}" for name, replica in all_replicas.items()},
                "gateway": f"http://127.0.0.1:{gateway.metrics}",
            },
            bases_root=root,
            audited=cluster.audited,
            replicas=all_replicas,
            add_replica=add_replica,
            tool=trust.tool,
        )
        say("taking everything down")


def start_bases(programs: Programs, gateway: HttpGateway, bases: int) -> tuple[Server, str]:
    """Start the process of all bases; return it, and where it is controlled. No base has begun."""
    admin = programs.port()
    fleet = programs.program(
        "bases",
        "benchmarks.bases",
        *("--controller", gateway.url, "--count", str(bases), "--admin-port", str(admin)),
        environ={"PYTHONPATH": str(ROOT)},
    )
    fleet.start()
    root = f"http://127.0.0.1:{admin}"
    fleet.wait_until(lambda: status(f"{root}/admin") == 200, within=STARTED_WITHIN)
    return fleet, root


@asynccontextmanager
async def line(built: Stage) -> AsyncIterator[Line]:
    """Connect to a stage."""
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(connected(built.cluster_root, tls(built.kubeconfig)))
        fleet = await stack.enter_async_context(connected(built.bases_root))
        programs = {name: await stack.enter_async_context(connected(root)) for name, root in built.metrics.items()}
        yield Line(built, kube, fleet, programs)


def node(base: str) -> str:
    """Return the name of a base's Node."""
    return f"vnode.{base}.dev"


def identities(bases: int) -> list[str]:
    """Return the identities of the bases of a stage."""
    return [IDENTITY] if bases == 1 else [f"{IDENTITY}-{number}" for number in range(1, bases + 1)]
