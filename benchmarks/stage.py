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
from benchmarks.targets import LEASE_DURATION
from benchmarks.trusted import Trust
from grpcclient.access import ClientAccess
from tests.programs import ControlPlane, HttpGateway, Programs, status
from tests.servers.cluster import ADMIN, CONTROL_PLANE, KubeCluster
from tests.servers.kubeapi import Json
from tests.servers.process import Server

NODES, PODS = "/api/v1/nodes", "/api/v1/namespaces/default/pods"
ROOT = Path(__file__).parents[1]
"""Measuring programs are not installed."""
STARTED_WITHIN = 60.0
CLUSTER_PROGRAMS = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class ApiServer:
    """The server that a stage has: where it is, who we are to it, and its processes by name."""

    version: str
    root: str
    environ: Mapping[str, str]
    """Variables with which a control plane works on it."""
    pids: Mapping[str, int]
    kubeconfig: Path | None = None
    """The administrator's; None where everybody may do everything."""
    audited: Callable[[], list[Json]] = list
    """What the control plane asked for, as the audit log has it; empty unless it is kept."""

    @property
    def own_kubeconfig(self) -> str:
        """The control plane's."""
        return self.environ["KUBECONFIG"]


@dataclass(frozen=True)
class Stage:
    """Everything runs; no base has begun. pids are by the name under which a process is reported."""

    bases: int
    server: ApiServer
    pids: dict[str, int]
    metrics: dict[str, str]
    bases_root: str
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
        """Return what a program gives on /metrics: a replica, the gateway, or all replicas together."""
        names = self.stage.replicas if program == "control plane" else (program,)
        return exposition.total([exposition.parse(await self._programs[name].text("/metrics")) for name in names])

    def usage(self) -> dict[str, usage.Usage]:
        """Return what each process uses."""
        return usage.snapshot(self.stage.pids)


@contextmanager
def stage(
    bases: int,
    logs: Path | None = None,
    *,
    audit: bool = False,
    replicas: int = 1,
    tls: bool = False,
    lease_duration: int = LEASE_DURATION,
) -> Iterator[Stage]:
    """Build it, and take it down; logs of our programs stay in a folder if one is given.

    With audit the API server keeps a log of what the control plane asks for, which makes it slower. With tls the
    gateway speaks TLS and shows a token of its service account, else plaintext and a token of this machine.
    lease_duration is in seconds.

    Raises Unavailable, ServerFailed, ApiError, OSError.
    """
    say("starting etcd, API server, controllers")
    with (
        KubeCluster(audit=audit) as cluster,
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        Programs(logs or Path(folder)) as programs,
    ):
        cluster.apply_rbac()
        children = usage.children(os.getpid())
        server = ApiServer(
            version=f"Kubernetes {cluster.version}",
            root=cluster.url,
            environ={**cluster.environ(CONTROL_PLANE), "LEASE_DURATION": str(lease_duration)},
            pids={name: children[name] for name in CLUSTER_PROGRAMS},
            kubeconfig=cluster.kubeconfig(ADMIN),
            audited=cluster.audited,
        )
        trust = trusted.tls(cluster, Path(folder)) if tls else trusted.plaintext(programs.folder)
        yield build(programs, server, trust, bases, replicas)
        say("taking everything down")


def build(
    programs: Programs, server: ApiServer, trust: Trust, bases: int, replicas: int, fleet: str = "benchmarks.bases"
) -> Stage:
    """Start control planes, gateway, and fleet, a module, as the process of the bases; raises ServerFailed, OSError."""
    say(f"starting control plane, gateway and the process of {bases} bases; {server.version}")

    def add_replica(name: str) -> ControlPlane:
        return ControlPlane(programs, name, IS_CLUSTER="true", **server.environ, **trust.control_plane).start()

    started = {f"cp-{number}": add_replica(f"cp-{number}") for number in range(replicas)}
    addresses = ",".join(replica.address for replica in started.values())
    gateway = HttpGateway(programs, addresses, **trust.gateway).start()
    process, root = start_bases(programs, gateway, bases, fleet)
    (_, first), *others = started.items()
    return Stage(
        bases=bases,
        server=server,
        pids={
            "control plane": first.server.pid,
            **{name: replica.server.pid for name, replica in others},
            "gateway": gateway.server.pid,
            "bases": process.pid,
            **server.pids,
        },
        metrics={
            **{name: f"http://127.0.0.1:{replica.metrics}" for name, replica in started.items()},
            "gateway": f"http://127.0.0.1:{gateway.metrics}",
        },
        bases_root=root,
        replicas=started,
        add_replica=add_replica,
        tool=trust.tool,
    )


def start_bases(
    programs: Programs, gateway: HttpGateway, bases: int, module: str = "benchmarks.bases"
) -> tuple[Server, str]:
    """Start the process of all bases; return it, and where it is controlled. No base has begun."""
    admin = programs.port()
    fleet = programs.program(
        "bases",
        module,
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
    credentials = None if built.server.kubeconfig is None else tls(built.server.kubeconfig)
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(connected(built.server.root, credentials))
        fleet = await stack.enter_async_context(connected(built.bases_root))
        programs = {name: await stack.enter_async_context(connected(root)) for name, root in built.metrics.items()}
        yield Line(built, kube, fleet, programs)


def node(base: str) -> str:
    """Return the name of a base's Node."""
    return f"vnode.{base}.dev"


def identities(bases: int) -> list[str]:
    """Return the identities of the bases of a stage."""
    return [IDENTITY] if bases == 1 else [f"{IDENTITY}-{number}" for number in range(1, bases + 1)]
