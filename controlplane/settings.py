"""Settings of the control plane, from environment variables."""

import os
import re
import socket
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from controlplane.app.policy import Policy
from controlplane.domain.base.planner import ModulePolicy, OrphanPolicy
from controlplane.domain.contract import MEMBER_LEASE_PREFIX
from controlplane.domain.identity import LABEL, MAX_NAME, parse_env
from controlplane.domain.ownership.lease import DURATION, Times
from controlplane.kubelet.settings import OTHERWISE, KubeletSettings
from controlplane.reports import hooks, trackerfile
from controlplane.reports.posting import Poster
from controlplane.rpc.settings import GrpcSettings
from controlplane.vnodesettings import VNodeSettings
from service import tls
from service.addresses import DEFAULT_NETWORKS, Network, parse_networks
from service.listening import (
    ALL_ADDRESSES,
    Host,
    Port,
    host_port,
    is_address,
    is_loopback,
    is_unspecified,
    loopback_of,
)
from service.logs import LogFormat, LogLevel
from service.settings import state_folder

_PART = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")


class ClusterKind(Enum):
    """Which cluster adapter is used."""

    AUTO = "auto"
    KUBERNETES = "kubernetes"
    EMBEDDED = "embedded"


def _checked(holds: Callable[[str], object], problem: str) -> AfterValidator:
    """Return the validator of a text."""

    def check(text: str) -> str:
        if not holds(text):
            raise ValueError(problem)
        return text

    return AfterValidator(check)


def _is_host_port(text: str) -> bool:
    """Return whether a text is host:port, or empty."""
    host, _, port = text.rpartition(":")
    return not text or (bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536)


def _names_a_lease(text: str) -> bool:
    # A part may be longer than a DNS label, as it may be in the name of a Pod.
    return len(MEMBER_LEASE_PREFIX + text) <= MAX_NAME and all(map(_PART.fullmatch, text.split(".")))


ReplicaName = Annotated[str, _checked(_names_a_lease, "not a DNS name (a to z, 0 to 9, '-' and '.') for a Lease")]
Namespace = Annotated[str, _checked(LABEL.fullmatch, "not a namespace's name: at most 63 of a to z, 0 to 9 and '-'")]
HostPort = Annotated[str, _checked(_is_host_port, "not host:port, for example 10.0.0.7:50051")]
IpAddress = Annotated[str, _checked(lambda text: not text or is_address(text), "not an IP address")]


def _is_file(path: str) -> bool:
    """Return whether a file is there. Raises OSError where that cannot be seen."""
    try:
        return S_ISREG(Path(path).expanduser().stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def default_client_id() -> str:
    """Return the Pod's or host's name, which stays the same over restarts."""
    return re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.") or "module-controller"


def own_namespace() -> str:
    """Return the namespace of the Pod that this runs in, or default."""
    try:
        return Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text().strip() or "default"
    except OSError:
        return "default"


class ControlPlaneSettings(VNodeSettings, KubeletSettings, GrpcSettings):
    """Variables of controlplane."""

    client_id: ReplicaName = Field(
        default_factory=default_client_id,
        description="stable name of this replica, unique among replicas; holds its leases",
    )
    namespace: Namespace = Field(
        default_factory=own_namespace,
        description="namespace of the control plane: its replicas find each other there, "
        "and the Service before the kubelet API is looked for",
    )
    advertise_address: HostPort = Field(
        "",
        description="host:port at which gateways reach this replica's gRPC; "
        "none: POD_IP, or GRPC_HOST where that is one address, with GRPC_PORT",
    )
    pod_ip: IpAddress = Field("", description="address of the Pod, from the downward API")
    is_cluster: bool = Field(
        False,
        description="true: replicas with more bases leave new ones to those with fewer, which evens loads out early",
    )
    workload_max_level: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="highest workload level of a replica; new bases go to one of the lowest level"
    )
    lease_duration: Annotated[int, Field(ge=DURATION, le=300)] = Field(
        DURATION,
        description="seconds that the Lease of a VNode lasts, the same on all replicas; from 60 on it is renewed every "
        "20 s in place of 10 s, which halves the writes of a large fleet",
    )
    env: Annotated[str, AfterValidator(parse_env)] = Field(
        "dev", description="environment whose bases are served; a DNS label, used in lower case as bases do"
    )
    cluster: ClusterKind = Field(
        ClusterKind.AUTO,
        description="kubernetes, embedded, or auto: kubernetes in a Pod or with KUBECONFIG, else embedded",
    )
    kubeconfig: str = Field("", description="kubeconfig files, separated by : as for kubectl; empty means in-cluster")
    embedded_db: str = Field(
        default_factory=lambda: str(state_folder() / "cluster.db"), description="file of the embedded cluster"
    )
    status_host: Host = Field(
        "",
        description=f"address that health, metrics, the report intake and the kubelet API listen on; {ALL_ADDRESSES}",
    )
    health_port: Port = Field(8081, description="TCP port of /livez and /readyz")
    metrics_port: Port = Field(9090, description="TCP port of /metrics")
    report_port: Port = Field(8080, description="TCP port of the report intake /log")
    report_token: SecretStr = Field(
        SecretStr(""), description="bearer token that /log asks for; none: /log is served on loopback alone"
    )
    report_hooks: SecretStr = Field(
        SecretStr(""),
        description="URLs that failures are sent to, separated by ;: webhooks of DingTalk robots, or URLs of Apprise",
    )
    tracker_config_path: str = Field(
        "",
        description="YAML file with logDir, reportLevel and reportLinks; "
        f"none: {trackerfile.DEFAULT_PATH} if it is there, else nothing is tracked",
    )
    replica_instance: str = Field(
        "", description="set by module-controller, which starts one only when the last one ended; none: random"
    )
    status_socket: str = Field("", description="Unix socket for probes and metrics instead of the two ports")
    vnode_worker_num: Annotated[int, Field(ge=1, le=256)] = Field(8, description="orders under way at once on one base")
    max_bases: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        10_000, description="bases with a VNode, of all replicas together, beyond which new ones are refused"
    )
    orphan_module_policy: OrphanPolicy = Field(
        OrphanPolicy.OWN,
        description="modules without a Pod that are uninstalled: own (those installed by this controller), all or none",
    )
    module_uninstall_timeout: Annotated[float, Field(gt=0, le=86400)] = Field(
        300.0, description="seconds that a Pod's deletion is held for a module that does not leave its base"
    )
    enable_module_deployment_controller: bool = Field(
        False, description="true: replicas of Deployments with the strategy peer follow the number of bases"
    )
    enable_module_replicas_sync_with_base: bool = Field(
        False,
        description="another name of ENABLE_MODULE_DEPLOYMENT_CONTROLLER; where both are set they must say the same",
    )
    module_scale_down_delay: Annotated[float, Field(ge=1, le=86400)] = Field(
        60.0, description="seconds for which a base that is gone still counts among the replicas that follow the bases"
    )
    allowed_cidrs: tuple[Network, ...] = Field(
        DEFAULT_NETWORKS,
        validation_alias="HTTP_TUNNEL_ALLOWED_CIDRS",
        description="networks that bases may be in, comma separated, as for the HTTP gateway: "
        "probes of modules go nowhere else",
    )
    log_format: LogFormat = Field(LogFormat.JSON, description="json or console")
    log_level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning or error")

    @field_validator("allowed_cidrs", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return parse_networks(value) if isinstance(value, str) else value

    @field_validator("kubeconfig")
    @classmethod
    def _kubeconfig(cls, value: str) -> str:
        # As kubectl, which passes over files that are not there.
        paths = [path for path in value.split(os.pathsep) if path]
        try:
            found = any(_is_file(path) for path in paths)
        except OSError as error:
            raise ValueError(f"it cannot be looked at ({error.strerror}); name an existing kubeconfig") from None
        if paths and not found:
            raise ValueError(f"there is no file {paths[0]}; name an existing kubeconfig or unset KUBECONFIG")
        return value

    @model_validator(mode="after")
    def _one_word_on_replicas(self) -> Self:
        names = {"enable_module_deployment_controller", "enable_module_replicas_sync_with_base"}
        said = {getattr(self, name) for name in names & self.model_fields_set}
        if len(said) > 1:
            raise ValueError(
                f"ENABLE_MODULE_DEPLOYMENT_CONTROLLER={str(self.enable_module_deployment_controller).lower()} and "
                f"ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE={str(self.enable_module_replicas_sync_with_base).lower()} "
                "are two names of one variable and contradict each other: unset one of them, or set both alike"
            )
        return self

    @model_validator(mode="after")
    def _kubelet(self) -> Self:
        if self.kubelet_exec_enabled and self.kind is ClusterKind.EMBEDDED:
            raise ValueError(
                "KUBELET_EXEC_ENABLED=true: the embedded cluster has no kubelet API; "
                "set CLUSTER=kubernetes or KUBECONFIG, or leave KUBELET_EXEC_ENABLED out"
            )
        if self.kubelet_exec_enabled and self.kubelet_proxy_enabled is False:
            raise ValueError(
                "KUBELET_EXEC_ENABLED=true needs the kubelet API, which KUBELET_PROXY_ENABLED=false turns off; "
                "leave one of them out"
            )
        if not self.kubelet_proxy_enabled:
            return self
        if self.kind is ClusterKind.EMBEDDED:
            raise ValueError(
                "KUBELET_PROXY_ENABLED=true: the embedded cluster has nobody who asks for logs; "
                "set CLUSTER=kubernetes or KUBECONFIG, or leave KUBELET_PROXY_ENABLED out"
            )
        try:
            if self.kubelet_files is not None:
                self.kubelet_files.load()
            else:
                self.kubelet_client_ca.read(OTHERWISE)
        except tls.WrongCertificates as error:
            raise ValueError(str(error)) from None
        return self

    def complaints(self) -> Sequence[str]:
        """Return what is wrong with reporting, which nothing else has to wait for."""
        found = hooks.parse(self.report_hooks.get_secret_value(), Poster()).unusable
        lines = [f"REPORT_HOOKS=********: {unusable}" for unusable in found]
        if self.report_host is None:
            lines.append(
                f"STATUS_HOST={self.status_host}: /log would take reports of whoever reaches it, and is not served; "
                "set REPORT_TOKEN, or STATUS_HOST to 127.0.0.1"
            )
        path = self.tracker_file
        if path is None:
            return lines
        variable = f"TRACKER_CONFIG_PATH={path}"
        try:
            config = trackerfile.load(path)
        except trackerfile.WrongTrackerFile as error:
            return [*lines, f"{variable}: {error}; nothing is tracked"]
        lines += [f"{variable}: {link}" for link in config.links if link.problem]
        if why := trackerfile.EventLog(config.log_dir).why_not_writable():
            lines.append(f"{variable}: logDir: {why}; no event is written until it can be")
        return lines

    @property
    def report_host(self) -> str | None:
        """Where /log is served: without a token on loopback alone; None where that is not what STATUS_HOST names."""
        if self.report_token.get_secret_value() or is_loopback(self.status_host):
            return self.status_host
        return loopback_of(self.status_host) if is_unspecified(self.status_host) else None

    @property
    def tracker_file(self) -> Path | None:
        """The tracker's configuration file: the named one, or that of the default name if it is there."""
        path = Path(self.tracker_config_path or trackerfile.DEFAULT_PATH)
        return path if self.tracker_config_path or path.exists() else None

    @property
    def reached_at(self) -> str:
        """host:port at which others reach the gRPC server, empty where that is not known."""
        if self.advertise_address:
            return self.advertise_address
        host = "" if is_unspecified(self.listens_at) else self.listens_at
        if not is_address(host):
            host = self.pod_ip or host
        return host_port(host, self.grpc_port) if host else ""

    @property
    def kind(self) -> ClusterKind:
        """The adapter that is meant: kubernetes or embedded."""
        if self.cluster is not ClusterKind.AUTO:
            return self.cluster
        in_cluster = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        return ClusterKind.KUBERNETES if self.kubeconfig or in_cluster else ClusterKind.EMBEDDED

    @property
    def in_pod(self) -> bool:
        """Whether the program works on the cluster in which it is a Pod."""
        in_cluster = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        return in_cluster and not self.kubeconfig and self.kind is ClusterKind.KUBERNETES

    @property
    def peers_follow(self) -> bool:
        """Whether replicas of peer Deployments follow the bases."""
        return self.enable_module_deployment_controller or self.enable_module_replicas_sync_with_base

    def policy(self, version: str) -> Policy:
        """Return how the application behaves."""
        return Policy(
            replica=self.client_id,
            env=self.env,
            version=version,
            modules=ModulePolicy(orders=self.vnode_worker_num, orphans=self.orphan_module_policy),
            leases=Times(self.lease_duration),
            module_uninstall_timeout=self.module_uninstall_timeout,
            scale_down_delay=self.module_scale_down_delay,
            peers_follow=self.peers_follow,
            clustered=self.is_cluster,
            most_level=self.workload_max_level,
            most_bases=self.max_bases,
            nodes=self.nodes,
        )
