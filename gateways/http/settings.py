"""Settings of the HTTP gateway."""

from enum import Enum
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateways.settings import GatewaySettings, Seconds
from service.addresses import DEFAULT_NETWORKS, Network, PortRange, parse_networks, parse_ports
from service.listening import ALL_ADDRESSES, Host, Port
from service.process import StartError
from service.tls import Files, PemFile
from service.tokens import Key, read_keys


class PeerCheck(Enum):
    """Whether a base must call from the address that it names."""

    OFF = "off"
    ENFORCE = "enforce"


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
    allowed_ports: tuple[PortRange, ...] = Field(
        (),
        validation_alias="HTTP_TUNNEL_ALLOWED_PORTS",
        description="ports and ranges (443,8000-8099) that bases may have though they are below 1024, or those of the "
        "API server (6443), kubelets (10250, 10255, 10256) or etcd (2379, 2380)",
    )
    token: SecretStr = Field(
        SecretStr(""),
        validation_alias="HTTP_TUNNEL_TOKEN",
        description="token of all bases, as a part of their URL (http://HOST:7777/t/TOKEN) or as a bearer token; "
        "without it and HTTP_TUNNEL_TOKEN_KEYS all are accepted",
    )
    token_keys: SecretStr = Field(
        SecretStr(""),
        validation_alias="HTTP_TUNNEL_TOKEN_KEYS",
        description="keys of tokens for one base each (mctl token create): the absolute path of a file, which is "
        "read again when it changes, or the keys, comma separated; two at most, while one takes the other's place",
    )
    peer_check: PeerCheck = Field(
        PeerCheck.OFF,
        validation_alias="HTTP_TUNNEL_PEER_CHECK",
        description="enforce: a heartbeat must come from the address that it names; off where a proxy or NAT stands "
        "between bases and gateway",
    )
    crt_path: str = Field(
        "",
        validation_alias="HTTP_TUNNEL_CRT_PATH",
        description="PEM file of the certificate for bases: with it they must use https; it and the key are read again "
        "when they change",
    )
    key_path: str = Field("", validation_alias="HTTP_TUNNEL_KEY_PATH", description="PEM file of that certificate's key")
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

    @field_validator("allowed_ports", mode="before")
    @classmethod
    def _ports(cls, value: Any) -> Any:
        return parse_ports(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _both_files(self) -> Self:
        if bool(self.crt_path) != bool(self.key_path):
            raise ValueError(
                f"HTTP_TUNNEL_CRT_PATH={self.crt_path} and HTTP_TUNNEL_KEY_PATH={self.key_path}: one of the two is "
                "missing; set both for TLS, or neither"
            )
        return self

    @model_validator(mode="after")
    def _usable_files(self) -> Self:
        try:
            self.keys()
            if self.tls_files is not None:
                self.tls_files.load()
        except StartError as error:
            raise ValueError(str(error)) from None
        return self

    def keys(self) -> tuple[Key, ...]:
        """Return the keys of bound tokens as they are now. Raises StartError. Blocks."""
        value = self.token_keys.get_secret_value()
        return read_keys("HTTP_TUNNEL_TOKEN_KEYS", value) if value else ()

    @property
    def tls_files(self) -> Files | None:
        """Certificate and key, None without TLS."""
        if not self.crt_path:
            return None
        crt, key = (
            PemFile("HTTP_TUNNEL_CRT_PATH", self.crt_path),
            PemFile("HTTP_TUNNEL_KEY_PATH", self.key_path),
        )
        return Files(crt, key, None, otherwise="leave HTTP_TUNNEL_CRT_PATH and HTTP_TUNNEL_KEY_PATH out")
