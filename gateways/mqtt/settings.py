"""Settings of the MQTT gateway."""

from __future__ import annotations

import socket
import ssl
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateways.arklet import names
from gateways.session import endpoints
from service.listening import ALL_ADDRESSES, Host
from service.logs import LogFormat, LogLevel
from service.settings import Settings

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
MAX_CLIENT_ID = 1024


def _host_name() -> str:
    return socket.gethostname()


class MqttGatewaySettings(Settings):
    """Variables of mqtt-gateway."""

    broker: str = Field(
        validation_alias="MQTT_BROKER", min_length=1, max_length=253, description="host name or address of the broker"
    )
    port: Port = Field(1883, validation_alias="MQTT_PORT", description="TCP port of the broker")
    username: str = Field("", validation_alias="MQTT_USERNAME", description="user at the broker; empty means none")
    password: SecretStr = Field(SecretStr(""), validation_alias="MQTT_PASSWORD", description="password of the user")
    client_prefix: str = Field(
        "koupleless",
        validation_alias="MQTT_CLIENT_PREFIX",
        max_length=MAX_CLIENT_ID,
        description="first part of the client id PREFIX@@@CLIENT_ID",
    )
    ca_path: str = Field(
        "", validation_alias="MQTT_CA_PATH", description="PEM file with the CA of the broker; turns TLS on"
    )
    client_crt_path: str = Field(
        "", validation_alias="MQTT_CLIENT_CRT_PATH", description="PEM file with the client certificate; turns TLS on"
    )
    client_key_path: str = Field(
        "", validation_alias="MQTT_CLIENT_KEY_PATH", description="PEM file with the key of the client certificate"
    )
    tls_insecure: bool = Field(
        False,
        validation_alias="MQTT_TLS_INSECURE",
        description="true does not check the broker's certificate: anybody on the way can then install modules",
    )
    control_plane: tuple[str, ...] = Field(
        ("127.0.0.1:50051",),
        validation_alias="CONTROL_PLANE",
        description="host:port of control plane replicas, comma separated; a name stands for all its addresses",
    )
    client_id: str = Field(
        default_factory=_host_name,
        min_length=1,
        max_length=253,
        validation_alias="CLIENT_ID",
        description="stable name of this gateway, unique among gateways",
    )
    env: str = Field(
        "dev",
        validation_alias="ENV",
        description="environment whose bases are served; a DNS label, used in lower case as bases do",
    )
    status_host: Host = Field(
        "",
        validation_alias="STATUS_HOST",
        description=f"address that health and metrics listen on; {ALL_ADDRESSES}",
    )
    health_port: Port = Field(8083, validation_alias="HEALTH_PORT", description="TCP port of /livez and /readyz")
    metrics_port: Port = Field(9092, validation_alias="METRICS_PORT", description="TCP port of /metrics")
    status_socket: str = Field(
        "", validation_alias="STATUS_SOCKET", description="Unix socket for probes and metrics instead of the two ports"
    )
    health_timeout: Seconds = Field(
        5.0, validation_alias="MQTT_HEALTH_TIMEOUT", description="seconds for the answer to a health question"
    )
    query_timeout: Seconds = Field(
        10.0, validation_alias="MQTT_QUERY_TIMEOUT", description="seconds for the answer with the module list"
    )
    shutdown_timeout: Seconds = Field(
        8.0,
        validation_alias="SHUTDOWN_TIMEOUT",
        description="seconds for orders under way at the end; what is not done by then is reported as unknown",
    )
    log_format: LogFormat = Field(LogFormat.JSON, validation_alias="LOG_FORMAT", description="json or console")
    log_level: LogLevel = Field(
        LogLevel.INFO, validation_alias="LOG_LEVEL", description="debug, info, warning or error"
    )

    @property
    def mqtt_client_id(self) -> str:
        """Client id at the broker, in the form that the base side knows."""
        return f"{self.client_prefix}@@@{self.client_id}"

    @property
    def tls(self) -> bool:
        """Whether the broker is spoken to by TLS."""
        return bool(self.ca_path or self.client_crt_path)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return how to do TLS, None without it. Raises ValueError for files that cannot be used."""
        if not self.tls:
            return None
        context = ssl.create_default_context()
        if self.ca_path:
            _load("MQTT_CA_PATH", self.ca_path, lambda: context.load_verify_locations(cafile=self.ca_path))
        if self.client_crt_path:
            files = f"{self.client_crt_path} with MQTT_CLIENT_KEY_PATH={self.client_key_path}"
            _load(
                "MQTT_CLIENT_CRT_PATH",
                files,
                # A password that is asked for on the terminal would hang the start.
                lambda: context.load_cert_chain(self.client_crt_path, self.client_key_path, password=""),
            )
        if self.tls_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @field_validator("broker")
    @classmethod
    def _host(cls, value: str) -> str:
        if "/" in value or value.startswith("[") or value.count(":") == 1 or any(c.isspace() for c in value):
            raise ValueError("give the host alone, without scheme and port; the port is MQTT_PORT")
        return value

    @field_validator("client_prefix", "client_id")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("has characters that cannot be printed")
        return value

    @field_validator("control_plane", mode="before")
    @classmethod
    def _endpoints(cls, value: Any) -> Any:
        return endpoints.parse_list(value) if isinstance(value, str) else value

    @field_validator("env")
    @classmethod
    def _env(cls, value: str) -> str:
        return names.parse_env(value)

    @field_validator("log_format", "log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.password.get_secret_value() and not self.username:
            raise ValueError("MQTT_PASSWORD is set without MQTT_USERNAME: set both or neither")
        if bool(self.client_crt_path) != bool(self.client_key_path):
            raise ValueError("MQTT_CLIENT_CRT_PATH and MQTT_CLIENT_KEY_PATH belong together: set both or neither")
        if self.tls_insecure and not self.tls:
            raise ValueError("MQTT_TLS_INSECURE=true without TLS: set MQTT_CA_PATH too, or unset it")
        self.tls_context()
        return self


def _load(variable: str, files: str, load: Any) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # SSLError is an OSError
        cause = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        raise ValueError(f"{variable}={files}: cannot be used ({cause}); give readable PEM files that match") from None
