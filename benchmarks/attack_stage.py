"""The stage of the attacks: control plane, both gateways, a broker, a few good bases, and an attacker as a process."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import trusted, usage
from benchmarks.progress import say
from benchmarks.stage import ROOT, start_bases
from grpcclient.access import ClientAccess
from tests.programs import ControlPlane, HttpGateway, MqttGateway, Programs
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.cluster import CONTROL_PLANE, KubeCluster
from tests.servers.mosquitto import Mosquitto
from tests.servers.process import Server


@dataclass(frozen=True)
class AttackStage:
    """Everything runs; no good base has begun."""

    cluster: str
    bases: int
    bases_root: str
    control_plane: ControlPlane
    http: HttpGateway
    mqtt: MqttGateway
    broker_port: int
    reports_port: int
    tool: ClientAccess
    programs: Programs

    @property
    def servers(self) -> dict[str, Server]:
        """Our programs, by the name under which they are reported."""
        return {
            "control plane": self.control_plane.server,
            "HTTP gateway": self.http.server,
            "MQTT gateway": self.mqtt.server,
        }

    def log_bytes(self) -> int:
        """Return how much our programs have logged."""
        return sum(server.log.stat().st_size for server in self.servers.values())

    def peaks(self) -> dict[str, int]:
        """Return the most memory that each has had, in bytes."""
        return {name: usage.peak(server.pid) for name, server in self.servers.items()}

    def attacker(self, attack: str, ports: list[int], count: int, seconds: float) -> Server:
        """Return an attack that has not begun."""
        how = ("--ports", ",".join(map(str, ports)), "--count", str(count), "--seconds", str(seconds))
        module, environ = "tests.security.attackers", {"PYTHONPATH": str(ROOT)}
        return self.programs.program(f"attack-{attack}", module, attack, *how, environ=environ)


@contextmanager
def attack_stage(bases: int, logs: Path | None, *, kubernetes: bool) -> Iterator[AttackStage]:
    """Build it, and take it down; raises Unavailable, ServerFailed, ApiError, OSError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        broker = stack.enter_context(Mosquitto())
        programs = stack.enter_context(Programs(logs or folder))
        if kubernetes:
            say("starting etcd, API server, controllers")
            cluster = stack.enter_context(KubeCluster())
            cluster.apply_rbac()
            where, kubeconfig = f"Kubernetes {cluster.version}", str(cluster.kubeconfig(CONTROL_PLANE))
            environ = {"CLUSTER": "kubernetes", "NAMESPACE": SYSTEM_NAMESPACE, "KUBECONFIG": kubeconfig}
        else:
            where, environ = "embedded cluster", {"CLUSTER": "embedded", "EMBEDDED_DB": str(folder / "cluster.db")}
        say(f"starting control plane, gateways and the process of {bases} good bases; {where}")
        reports = programs.port()
        control_plane = ControlPlane(programs, REPORT_PORT=str(reports), **environ).start()
        http = HttpGateway(programs, control_plane.address).start()
        mqtt = MqttGateway(programs, control_plane.address, broker.port).start()
        _, root = start_bases(programs, http, bases)
        yield AttackStage(
            cluster=where,
            bases=bases,
            bases_root=root,
            control_plane=control_plane,
            http=http,
            mqtt=mqtt,
            broker_port=broker.port,
            reports_port=reports,
            tool=trusted.plaintext(programs.folder).tool,
            programs=programs,
        )
        say("taking everything down")
