"""Settings of the HTTP gateway."""

from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator

from gateways.settings import GatewaySettings, Seconds
from service.addresses import DEFAULT_NETWORKS, Network, parse_networks
from service.listening import ALL_ADDRESSES, Host, Port


class HttpGatewaySettings(GatewaySettings):
    """Variables of http-gateway."""

    health_port: Port = Field(8082, description="TCP port of /livez and /readyz")
    metrics_port: Port = Field(9091, description="TCP port of /metrics")
    listen_port: Port = Field(
        7777, validation_alias="HTTP_TUNNEL_LISTEN_PORT", description="TCP port for heartbeats and baseline questions"
    )
    listen_host: Host = Field(
        "",
        validation_alias="HTTP_TUNNEL_LISTEN_HOST",
        description=f"address that the port for bases listens on; {ALL_ADDRESSES}",
    )
    allowed_cidrs: tuple[Network, ...] = Field(
        DEFAULT_NETWORKS,
        validation_alias="HTTP_TUNNEL_ALLOWED_CIDRS",
        description="networks that bases may be in, comma separated; loopback, link-local and cloud metadata "
        "addresses only count when a network inside those ranges is listed, such as 127.0.0.1/32",
    )
    token: SecretStr = Field(
        SecretStr(""),
        validation_alias="HTTP_TUNNEL_TOKEN",
        description="bearer token that bases must send; empty accepts all",
    )
    connect_timeout: Seconds = Field(
        3.0, validation_alias="HTTP_TUNNEL_CONNECT_TIMEOUT", description="seconds to connect to a base"
    )
    health_timeout: Seconds = Field(
        5.0, validation_alias="HTTP_TUNNEL_HEALTH_TIMEOUT", description="seconds for a health answer, connect included"
    )
    query_timeout: Seconds = Field(
        10.0, validation_alias="HTTP_TUNNEL_QUERY_TIMEOUT", description="seconds for a module list, connect included"
    )
    poll_concurrency: Annotated[int, Field(ge=8, le=16384)] = Field(
        512, validation_alias="HTTP_TUNNEL_POLL_CONCURRENCY", description="polls of answering bases at the same time"
    )

    @field_validator("allowed_cidrs", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return parse_networks(value) if isinstance(value, str) else value
