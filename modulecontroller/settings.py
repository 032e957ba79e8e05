"""Settings of module-controller itself; each child reads its own from the same environment."""

import socket
from typing import Annotated

from pydantic import Field

from service.listening import ALL_ADDRESSES, Host, Port
from service.logs import LogFormat, LogLevel
from service.settings import Settings

SUPERVISOR = "module-controller"
PROGRAM_NAMES = ("controlplane", "http-gateway", "mqtt-gateway")
"""The programs that module-controller runs, which can be started by themselves as well."""


class SupervisorSettings(Settings):
    """Variables of module-controller."""

    enable_http_tunnel: bool = Field(False, description="true runs the HTTP gateway")
    enable_mqtt_tunnel: bool = Field(False, description="true runs the MQTT gateway")
    client_id: str = Field(
        default_factory=socket.gethostname,
        description="stable name of this instance; by default the Pod's or host's name",
    )
    grpc_host: Host = Field(
        "127.0.0.1",
        description="address that gRPC listens on, for gateways and tools; :: or 0.0.0.0 means all, IPv4 and IPv6",
    )
    grpc_port: Port = Field(50051, description="TCP port of gRPC")
    grpc_crt_path: str = Field(
        "", description="PEM file of gRPC's certificate, needed where others than this machine reach gRPC"
    )
    control_plane_ca_path: str = Field(
        "", description="PEM file of the CA of that certificate, by which the gateways know the control plane"
    )
    grpc_insecure: bool = Field(False, description="true: gRPC without TLS beyond this machine")
    local_tokens_path: str = Field(
        "",
        description="file of the tokens by which gateways and tools of this machine are known; "
        "none: one in the state folder, or for this run only where that cannot be written",
    )
    http_tunnel_listen_port: Port = Field(7777, description="TCP port for bases that speak HTTP")
    status_host: Host = Field(
        "",
        description=f"address that health, metrics, the report intake and the kubelet API listen on; {ALL_ADDRESSES}",
    )
    health_port: Port = Field(8081, description="TCP port of /livez and /readyz")
    metrics_port: Port = Field(9090, description="TCP port of /metrics")
    report_port: Port = Field(8080, description="TCP port of the report intake /log")
    shutdown_timeout: Annotated[float, Field(gt=0, le=3600)] = Field(
        8.0,
        description="seconds that gateways have for orders under way at the end; terminationGracePeriodSeconds of the "
        "Pod should be 20 s more",
    )
    log_format: LogFormat = Field(LogFormat.JSON, description="json or console")
    log_level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning or error")


class QuickstartSettings(SupervisorSettings):
    """Variables of the quick start, which says where the broker is. It enables tunnels and names itself."""

    mqtt_broker: str = Field("", description="host of the broker; without it --mqtt runs one by itself")
    mqtt_port: Port = Field(1883, description="TCP port of the broker")
    env: str = Field("dev", description="environment, part of topics and Node names")
