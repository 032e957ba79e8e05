"""All programs with all of their ports open, in both forms in which they run: on Kubernetes, and on one machine."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import trustme
from prometheus_client.parser import text_string_to_metric_families

from service import localtokens
from service.tokens import Key
from tests.certificates import issued
from tests.programs import STARTED_WITHIN, ControlPlane, HttpGateway, MqttGateway, Programs, ask, status
from tests.security.matrix import tokens
from tests.security.matrix.tokens import DEPLOY, SYSTEM
from tests.servers import manifests, rbac
from tests.servers.cluster import CONTROL_PLANE, KubeCluster
from tests.servers.process import Server

NAME = "module-controller"
REPORT_TOKEN, SHARED = "matrix-report-token", "matrix shared/token"
NEW, OLD, GONE = (letter * 40 for letter in "nog")
"""Keys of tokens for one base: two that count, one that was removed."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program: where its ports are, by variable, and its log."""

    ports: Mapping[str, int]
    server: Server

    def lines(self) -> list[dict[str, Any]]:
        """Return what it logged."""
        text = self.server.log.read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def refusals(self, counter: str, labels: Mapping[str, str]) -> Mapping[str, float]:
        """Return by reason what a counter says, of series that have these labels."""
        _, text = ask(f"http://127.0.0.1:{self.ports['METRICS_PORT']}/metrics")
        lines = "\n".join(line for line in text.splitlines() if line.startswith(counter))
        found: dict[str, float] = defaultdict(float)
        for sample in (sample for family in text_string_to_metric_families(lines) for sample in family.samples):
            if labels.items() <= sample.labels.items():
                found[sample.labels["reason"]] += sample.value
        return found


@dataclass(frozen=True, slots=True)
class Stage:
    """The programs, and all credentials by what they are: tokens, and certificates of clients as file pairs."""

    programs: Mapping[str, Program]
    tokens: Mapping[str, str]
    certificates: Mapping[str, tuple[Path, Path] | None]
    ca: Path
    """Of gRPC's certificate."""
    kubelet_ca: Path
    """Of the kubelet API's."""
    folder: Path

    def port(self, program: str, variable: str) -> int:
        return self.programs[program].ports[variable]

    def channel_credentials(self, certificate: str = "none") -> grpc.ChannelCredentials:
        """Return TLS to the control plane, with the certificate of a client."""
        files = self.certificates[certificate]
        key, crt = (files[1].read_bytes(), files[0].read_bytes()) if files is not None else (None, None)
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), key, crt)


@contextmanager
def staged(kube: KubeCluster, folder: Path) -> Iterator[Stage]:
    """Start everything on a cluster, whose objects are removed afterwards."""
    kube.clean()
    objects = [*tokens.objects(), *manifests.load(DEPLOY / "kubelet" / "rbac.yaml")]
    for obj in tokens.objects():
        manifests.apply(kube.api, obj)
    rbac.apply(kube.api, CONTROL_PLANE, DEPLOY / "kubelet" / "rbac.yaml")
    try:
        with Programs(folder) as programs:
            yield _start(kube, programs)
    finally:
        for obj in objects:
            # The account is a part of the shipped roles, which stay.
            if obj["metadata"]["name"] != NAME:
                kube.api.delete(f"{manifests.collection(obj)}/{obj['metadata']['name']}")


def _start(kube: KubeCluster, programs: Programs) -> Stage:
    folder = programs.folder
    shown = tokens.credentials(kube)
    callers = trustme.CA()
    callers.cert_pem.write_to_path(str(folder / "callers.crt"))
    (folder / "ca").mkdir()
    files = issued(folder / "ca", names=(NAME, "127.0.0.1"), client_ca=False)
    machine = _machine(programs)
    control_plane, ports = _control_plane(kube, programs, files.crt.path, files.key.path)
    gateway = _http_gateway(programs, control_plane.address, folder / "ca" / "ca.crt", shown["gateway"])
    state = {"XDG_STATE_HOME": str(folder / "machine")}
    mqtt = MqttGateway(programs, f"127.0.0.1:{machine.ports['GRPC_PORT']}", programs.port(), **state)
    mqtt.server.start()
    machine.server.start()
    control_plane.start()
    gateway.start()
    for server, health in ((machine.server, machine.ports["HEALTH_PORT"]), (mqtt.server, mqtt.health)):
        path = "readyz" if server is machine.server else "livez"
        server.wait_until(lambda url=f"http://127.0.0.1:{health}/{path}": status(url) == 200, within=STARTED_WITHIN)  # type: ignore[misc]
    own = localtokens.read(folder / "machine" / "koupleless-module-controller" / "tokens.csv")
    bases = {
        "key that is gone": Key(GONE.encode()).token("base-1"),
        "of another base, renamed": f"{Key(NEW.encode()).token('base-2').removesuffix('base-2')}base-1",
        "of another base": Key(NEW.encode()).token("base-2"),
        "of this base": Key(NEW.encode()).token("base-1"),
        "of this base, by the older key": Key(OLD.encode()).token("base-1"),
        "shared": SHARED,
        "report token": REPORT_TOKEN,
    }
    http_ports = {"HTTP_TUNNEL_LISTEN_PORT": gateway.port, **_status(gateway)}
    return Stage(
        {
            "controlplane": Program({**ports, **_status(control_plane)}, control_plane.server),
            "http-gateway": Program(http_ports, gateway.server),
            "mqtt-gateway": Program(_status(mqtt), mqtt.server),
            NAME: machine,
        },
        shown | bases | {f"local {each.role}": each.token for each in own},
        _certificates(kube, folder, callers),
        folder / "ca" / "ca.crt",
        kube.pki.ca,
        folder,
    )


def _status(program: ControlPlane | HttpGateway | MqttGateway) -> dict[str, int]:
    return {"HEALTH_PORT": program.health, "METRICS_PORT": program.metrics}


def _control_plane(kube: KubeCluster, programs: Programs, crt: str, key: str) -> tuple[ControlPlane, dict[str, int]]:
    kubelet_crt, kubelet_key = kube.pki.server("matrix-kubelet", "127.0.0.1")
    both = programs.folder / "both.crt"
    both.write_bytes(kube.pki.ca.read_bytes() + (programs.folder / "callers.crt").read_bytes())
    names = ("GRPC_CERTIFICATE_PORT", "REPORT_PORT", "KUBELET_PROXY_PORT")
    ports = {name: programs.port() for name in names}
    control_plane = ControlPlane(
        programs,
        CLUSTER="kubernetes",
        KUBECONFIG=str(kube.kubeconfig(CONTROL_PLANE)),
        NAMESPACE=SYSTEM,
        GRPC_CRT_PATH=crt,
        GRPC_KEY_PATH=key,
        GRPC_CLIENT_CA_PATH=str(programs.folder / "callers.crt"),
        STATUS_HOST="127.0.0.1",
        REPORT_TOKEN=REPORT_TOKEN,
        KUBELET_PROXY_ENABLED="true",
        KUBELET_PROXY_CRT_PATH=str(kubelet_crt),
        KUBELET_PROXY_KEY_PATH=str(kubelet_key),
        KUBELET_PROXY_CLIENT_CA_PATH=str(both),
        **{name: str(port) for name, port in ports.items()},
    )
    return control_plane, {"GRPC_PORT": control_plane.grpc, **ports}


def _http_gateway(programs: Programs, address: str, ca: Path, token: str) -> HttpGateway:
    keys, shown = programs.folder / "keys", programs.folder / "gateway-token"
    keys.write_text(f"{NEW}\n{OLD}\n")
    shown.write_text(token)
    return HttpGateway(
        programs,
        address,
        CONTROL_PLANE_CA_PATH=str(ca),
        CONTROL_PLANE_TOKEN_PATH=str(shown),
        HTTP_TUNNEL_TOKEN=SHARED,
        HTTP_TUNNEL_TOKEN_KEYS=str(keys),
    )


def _machine(programs: Programs) -> Program:
    names = ("GRPC_PORT", "HTTP_TUNNEL_LISTEN_PORT", "HEALTH_PORT", "METRICS_PORT", "REPORT_PORT")
    ports = {name: programs.port() for name in names}
    state = programs.folder / "machine"
    environ = {
        "ENABLE_HTTP_TUNNEL": "true",
        "CLUSTER": "embedded",
        "EMBEDDED_DB": str(state / "cluster.db"),
        "XDG_STATE_HOME": str(state),
        "HTTP_TUNNEL_ALLOWED_CIDRS": "127.0.0.0/8",
    }
    state.mkdir()
    numbers = {name: str(port) for name, port in ports.items()}
    return Program(ports, programs.program(NAME, "modulecontroller", environ={**environ, **numbers}))


def _certificates(kube: KubeCluster, folder: Path, callers: trustme.CA) -> Mapping[str, tuple[Path, Path] | None]:
    """Return certificates of clients by what they are: of gRPC's callers, and of users of the cluster."""
    long_ago = datetime.now(UTC) - timedelta(days=2)
    yesterday = long_ago + timedelta(days=1)
    account = f"system:serviceaccount:{SYSTEM}:"
    leaves = {
        "foreign": trustme.CA().issue_cert("a@callers.test", common_name=f"{account}viewer"),
        "expired": callers.issue_cert(
            "b@callers.test", common_name=f"{account}viewer", not_before=long_ago, not_after=yesterday
        ),
        "nobody's": callers.issue_cert("c@callers.test"),
        "stranger": callers.issue_cert("d@callers.test", common_name=f"{account}stranger"),
        "viewer": callers.issue_cert("e@callers.test", common_name=f"{account}viewer"),
        "gateway": callers.issue_cert("f@callers.test", common_name=f"{account}http-gateway"),
    }
    pairs: dict[str, tuple[Path, Path] | None] = {name: _written(folder / name, leaf) for name, leaf in leaves.items()}
    return {"none": None, **pairs, "API server": kube.pki.files("kube-apiserver-kubelet-client")}


def _written(path: Path, leaf: trustme.LeafCert) -> tuple[Path, Path]:
    crt, key = path.with_suffix(".crt"), path.with_suffix(".key")
    crt.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(key))
    return crt, key


def seconds(line: Mapping[str, Any]) -> float:
    """Return when a line was logged, in epoch seconds."""
    return datetime.fromisoformat(str(line["timestamp"])).timestamp()


def apart(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the seconds between each line and the next."""
    times = [seconds(line) for line in lines]
    return [after - before for before, after in pairwise(times)]
