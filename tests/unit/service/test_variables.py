"""Each variable of each program changes the setting that it stands for."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base.planner import OrphanPolicy
from controlplane.domain.base.vnode import HostnameLabel
from controlplane.settings import ClusterKind, ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings, PeerCheck
from gateways.mqtt.settings import MqttGatewaySettings
from modulecontroller.configuration import PROGRAMS, VARIABLES
from modulecontroller.settings import SupervisorSettings
from service.logs import LogFormat, LogLevel
from service.settings import ConfigurationError, Settings, names, read
from service.tokens import Key
from tests.servers.credentials import Credentials

Row = tuple[str, Callable[[Any], object], object]
"""The value of a variable, the setting that it changes, and the value of that setting."""

LOGS: Mapping[str, Row] = {
    "LOG_FORMAT": ("Console", lambda s: s.log_format, LogFormat.CONSOLE),
    "LOG_LEVEL": ("WARNING", lambda s: s.log_level, LogLevel.WARNING),
}
PROBES: Mapping[str, Row] = {
    "STATUS_HOST": ("127.0.0.1", lambda s: s.status_host, "127.0.0.1"),
    "HEALTH_PORT": ("1", lambda s: s.health_port, 1),
    "METRICS_PORT": ("2", lambda s: s.metrics_port, 2),
}
GATEWAY: Mapping[str, Row] = {
    "CLIENT_ID": ("gw-1", lambda s: s.client_id, "gw-1"),
    "ENV": ("Prod", lambda s: s.env, "prod"),
    "CONTROL_PLANE": ("[::1]:1, localhost:2", lambda s: s.control_plane, ("[::1]:1", "localhost:2")),
    "CONTROL_PLANE_CA_PATH": ("/ca", lambda s: s.control_plane_ca_path, "/ca"),
    "CONTROL_PLANE_SERVER_NAME": ("mc", lambda s: s.access.server_name, "mc"),
    "CONTROL_PLANE_TOKEN_PATH": ("/token", lambda s: s.access.token_path, "/token"),
    "LOCAL_TOKENS_PATH": ("/tokens", lambda s: s.access.tokens_path, "/tokens"),
    "GRPC_INSECURE": ("true", lambda s: s.access.insecure, True),
    "STATUS_SOCKET": ("/run/s", lambda s: s.status_socket, "/run/s"),
    "SHUTDOWN_TIMEOUT": ("2.5", lambda s: s.shutdown_timeout, 2.5),
}
STATUS: Mapping[str, Row] = {
    "GRPC_HOST": ("127.0.0.3", lambda s: s.grpc_host, "127.0.0.3"),
    "GRPC_PORT": ("3", lambda s: s.grpc_port, 3),
    "REPORT_PORT": ("4", lambda s: s.report_port, 4),
    "CLIENT_ID": ("mc-1", lambda s: s.client_id, "mc-1"),
}
TABLES: Mapping[type[Settings], Mapping[str, Row]] = {
    SupervisorSettings: {
        **LOGS,
        **PROBES,
        **STATUS,
        "SHUTDOWN_TIMEOUT": ("2.5", lambda s: s.shutdown_timeout, 2.5),
        "CONTROL_PLANE_CA_PATH": ("/ca", lambda s: s.control_plane_ca_path, "/ca"),
        "GRPC_INSECURE": ("true", lambda s: s.grpc_insecure, True),
        "LOCAL_TOKENS_PATH": ("/tokens", lambda s: s.local_tokens_path, "/tokens"),
        "ENABLE_HTTP_TUNNEL": ("true", lambda s: s.enable_http_tunnel, True),
        "ENABLE_MQTT_TUNNEL": ("true", lambda s: s.enable_mqtt_tunnel, True),
        "HTTP_TUNNEL_LISTEN_PORT": ("5", lambda s: s.http_tunnel_listen_port, 5),
    },
    ControlPlaneSettings: {
        **LOGS,
        **PROBES,
        **STATUS,
        "CLIENT_ID": ("cp-1", lambda s: s.policy("v").replica, "cp-1"),
        "ENV": ("Prod", lambda s: s.policy("v").env, "prod"),
        "ADVERTISE_ADDRESS": ("cp-0.example:1", lambda s: s.reached_at, "cp-0.example:1"),
        "REPLICA_INSTANCE": ("i", lambda s: s.replica_instance, "i"),
        "POD_IP": ("10.1.2.3", lambda s: s.pod_ip, "10.1.2.3"),
        "IS_CLUSTER": ("true", lambda s: s.policy("v").clustered, True),
        "WORKLOAD_MAX_LEVEL": ("5", lambda s: s.policy("v").most_level, 5),
        "CLUSTER": ("Kubernetes", lambda s: s.kind, ClusterKind.KUBERNETES),
        "GRPC_CA_PATH": ("/ca", lambda s: s.grpc_ca_path, "/ca"),
        "GRPC_SERVER_NAME": ("mc", lambda s: s.to_replicas(None).server_name, "mc"),
        "GRPC_INSECURE": ("true", lambda s: s.to_replicas(None).insecure, True),
        "GRPC_TLS_SECRET": ("tls", lambda s: s.tls_secret, "tls"),
        "GRPC_CA_CONFIGMAP": ("ca", lambda s: s.grpc_ca_configmap, "ca"),
        "GRPC_AUDIENCE": ("mc", lambda s: s.grpc_audience, "mc"),
        "GRPC_GATEWAY_USERS": ("a, b", lambda s: s.gateways("n"), frozenset({"a", "b"})),
        "GRPC_REPLICA_USERS": ("a,", lambda s: s.replicas("n"), frozenset({"a"})),
        "GRPC_TOKEN_PATH": ("/token", lambda s: s.to_replicas(None).token_path, "/token"),
        "GRPC_CERTIFICATE_PORT": ("9", lambda s: s.grpc_certificate_port, 9),
        "LOCAL_TOKENS_PATH": ("/tokens", lambda s: s.local_tokens(embedded=True), Path("/tokens")),
        "EMBEDDED_DB": ("/data/c.db", lambda s: s.embedded_db, "/data/c.db"),
        "REPORT_TOKEN": ("t", lambda s: s.report_token.get_secret_value(), "t"),
        "REPORT_HOOKS": (
            "https://oapi.dingtalk.com/robot/send?access_token=t",
            lambda s: s.report_hooks.get_secret_value(),
            "https://oapi.dingtalk.com/robot/send?access_token=t",
        ),
        "STATUS_SOCKET": ("/run/s", lambda s: s.status_socket, "/run/s"),
        "VNODE_WORKER_NUM": ("3", lambda s: s.policy("v").modules.orders, 3),
        "LEASE_DURATION": ("60", lambda s: s.policy("v").leases.duration, 60),
        "MAX_BASES": ("5", lambda s: s.policy("v").most_bases, 5),
        "ORPHAN_MODULE_POLICY": ("None", lambda s: s.policy("v").modules.orphans, OrphanPolicy.NONE),
        "MODULE_UNINSTALL_TIMEOUT": ("7.5", lambda s: s.policy("v").module_uninstall_timeout, 7.5),
        "MODULE_SCALE_DOWN_DELAY": ("9", lambda s: s.policy("v").scale_down_delay, 9.0),
        "ENABLE_MODULE_DEPLOYMENT_CONTROLLER": ("true", lambda s: s.policy("v").peers_follow, True),
        "ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE": ("true", lambda s: s.policy("v").peers_follow, True),
        "HTTP_TUNNEL_ALLOWED_CIDRS": ("10.1.0.0/16", lambda s: s.allowed_cidrs, (ipaddress.ip_network("10.1.0.0/16"),)),
        "VNODE_RESOURCES": (
            "cpu=2, memory=1024Gi",
            lambda s: dict(s.policy("v").nodes.resources),
            {"cpu": "2", "memory": "1Ti"},
        ),
        "VNODE_CPU": ("1000m", lambda s: s.policy("v").nodes.cpu, "1"),
        "MAX_MODULES_PER_BASE": ("20", lambda s: s.policy("v").nodes.pods, 20),
        "VNODE_PROVIDER_ID": ("true", lambda s: s.policy("v").nodes.provider_id, True),
        "VNODE_HOSTNAME_LABEL": ("host", lambda s: s.policy("v").nodes.hostname, HostnameLabel.HOST),
        "NAMESPACE": ("apps", lambda s: s.namespace, "apps"),
        "KUBELET_PROXY_PORT": ("6", lambda s: s.kubelet_proxy_port, 6),
        "KUBELET_PROXY_CRT_PATH": ("/c", lambda s: s.kubelet_proxy_crt_path, "/c"),
        "KUBELET_PROXY_KEY_PATH": ("/k", lambda s: s.kubelet_proxy_key_path, "/k"),
        "KUBELET_PROXY_CLIENT_CA_PATH": ("/a", lambda s: s.kubelet_proxy_client_ca_path, "/a"),
        "LOG_SOURCE": ("http://x/{host}", lambda s: s.log_source, "http://x/{host}"),
        "LOG_SOURCE_TOKEN_PATH": ("/token", lambda s: s.log_source_token_path, "/token"),
    },
    HttpGatewaySettings: {
        **LOGS,
        **PROBES,
        **GATEWAY,
        "HTTP_TUNNEL_LISTEN_PORT": ("5", lambda s: s.listen_port, 5),
        "HTTP_TUNNEL_LISTEN_HOST": ("10.1.2.3", lambda s: s.listen_host, "10.1.2.3"),
        "HTTP_TUNNEL_ALLOWED_CIDRS": ("10.1.0.0/16", lambda s: s.allowed_cidrs, (ipaddress.ip_network("10.1.0.0/16"),)),
        "HTTP_TUNNEL_TOKEN": ("t", lambda s: s.token.get_secret_value(), "t"),
        "HTTP_TUNNEL_ALLOWED_PORTS": (
            "443, 80-90",
            lambda s: [str(each) for each in s.allowed_ports],
            ["443", "80-90"],
        ),
        "HTTP_TUNNEL_TOKEN_KEYS": ("k" * 32, lambda s: s.keys(), (Key(b"k" * 32),)),
        "HTTP_TUNNEL_PEER_CHECK": ("Enforce", lambda s: s.peer_check, PeerCheck.ENFORCE),
        "HTTP_TUNNEL_CONNECT_TIMEOUT": ("1", lambda s: s.connect_timeout, 1.0),
        "HTTP_TUNNEL_HEALTH_TIMEOUT": ("2", lambda s: s.health_timeout, 2.0),
        "HTTP_TUNNEL_QUERY_TIMEOUT": ("4", lambda s: s.query_timeout, 4.0),
        "HTTP_TUNNEL_POLL_CONCURRENCY": ("16", lambda s: s.poll_concurrency, 16),
    },
    MqttGatewaySettings: {
        **LOGS,
        **PROBES,
        **GATEWAY,
        "MQTT_BROKER": ("broker.example", lambda s: s.broker, "broker.example"),
        "MQTT_PORT": ("8883", lambda s: s.port, 8883),
        "MQTT_USERNAME": ("u", lambda s: s.username, "u"),
        "MQTT_CLIENT_PREFIX": ("acme", lambda s: s.client_id_of("gw-1"), "acme@@@gw-1"),
        "CLIENT_ID": ("gw-1", lambda s: s.client_id, "gw-1"),
        "MQTT_HEALTH_TIMEOUT": ("2", lambda s: s.health_timeout, 2.0),
        "MQTT_QUERY_TIMEOUT": ("4", lambda s: s.query_timeout, 4.0),
    },
}
WITH_FILES = {
    "CONTROL_PLANE_CRT_PATH",
    "CONTROL_PLANE_KEY_PATH",
    "GRPC_CLIENT_CA_PATH",
    "GRPC_CRT_PATH",
    "GRPC_KEY_PATH",
    "KUBECONFIG",
    "TRACKER_CONFIG_PATH",
    "KUBELET_EXEC_ENABLED",
    "KUBELET_PROXY_ENABLED",
    "MQTT_PASSWORD",
    "MQTT_CA_PATH",
    "MQTT_CLIENT_CRT_PATH",
    "MQTT_CLIENT_KEY_PATH",
    "MQTT_TLS_INSECURE",
    "HTTP_TUNNEL_CRT_PATH",
    "HTTP_TUNNEL_KEY_PATH",
}
"""Variables that need a file or another variable: their tests are below, and in tests/unit/kubelet and rpc."""
NEEDED = {"MQTT_BROKER": "b"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES | {"KUBERNETES_SERVICE_HOST"}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: program.__name__)
def test_no_variable_is_left_out(program: type[Settings]) -> None:
    assert names(program) - WITH_FILES == TABLES[program].keys()


@pytest.mark.parametrize(
    ("program", "variable"),
    [(program, variable) for program, table in TABLES.items() for variable in table],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_variable_has_its_effect(monkeypatch: pytest.MonkeyPatch, program: type[Settings], variable: str) -> None:
    for name in NEEDED.keys() & names(program) - {variable}:
        monkeypatch.setenv(name, NEEDED[name])
    value, look, expected = TABLES[program][variable]
    if variable not in NEEDED:
        assert look(read(program)) != expected, "choose a value that is not the default"
    monkeypatch.setenv(variable, value)
    assert look(read(program)) == expected
    # Manifests may leave a variable blank: an empty one counts as not set.
    if variable not in NEEDED:
        monkeypatch.setenv(variable, "")
        assert look(read(program)) != expected


def test_a_kubeconfig_means_kubernetes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("{}")
    assert read(ControlPlaneSettings).kind is ClusterKind.EMBEDDED
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert read(ControlPlaneSettings).kind is ClusterKind.KUBERNETES
    assert read(ControlPlaneSettings).kubeconfig == str(file)


def test_the_tracker_file_is_the_named_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(ControlPlaneSettings).tracker_file is None
    file = tmp_path / "tracker.yaml"
    file.write_text(f"logDir: {tmp_path}\nreportLevel: error\n")
    monkeypatch.setenv("TRACKER_CONFIG_PATH", str(file))
    assert read(ControlPlaneSettings).tracker_file == file


def test_a_password_goes_with_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MQTT_BROKER": "b", "MQTT_USERNAME": "u", "MQTT_PASSWORD": "p"}.items():
        monkeypatch.setenv(name, value)
    settings = read(MqttGatewaySettings)
    assert (settings.username, settings.password.get_secret_value()) == ("u", "p")


def test_files_turn_tls_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pki = Credentials(tmp_path)
    monkeypatch.setenv("MQTT_BROKER", "b")
    assert not read(MqttGatewaySettings).tls
    monkeypatch.setenv("MQTT_CA_PATH", str(pki.ca))
    context = read(MqttGatewaySettings).tls_context
    assert context is not None
    assert context.check_hostname
    assert len(context.get_ca_certs()) >= 1
    monkeypatch.setenv("MQTT_TLS_INSECURE", "true")
    context = read(MqttGatewaySettings).tls_context
    assert context is not None
    assert not context.check_hostname
    monkeypatch.delenv("MQTT_TLS_INSECURE")
    monkeypatch.delenv("MQTT_CA_PATH")
    monkeypatch.setenv("MQTT_CLIENT_CRT_PATH", str(pki.server_crt))
    monkeypatch.setenv("MQTT_CLIENT_KEY_PATH", str(pki.server_key))
    assert read(MqttGatewaySettings).tls


@pytest.mark.parametrize("value", ["cpu", "cpu=", "cpu=much", "cpu=-1", "=1", "pods=5", "cpu=1;memory=2Gi", "cpu=1,,"])
def test_resources_that_no_node_can_have_stop_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VNODE_RESOURCES", value)
    with pytest.raises(ConfigurationError, match=f"VNODE_RESOURCES={re.escape(value)}: .* is not RESOURCE=QUANTITY"):
        read(ControlPlaneSettings)


def test_a_vnode_may_offer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VNODE_RESOURCES", "none")
    assert read(ControlPlaneSettings).policy("v").nodes.resources == {}
