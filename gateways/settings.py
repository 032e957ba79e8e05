"""Settings that all gateways have."""

import socket
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from gateways.arklet.names import parse_env
from gateways.session import endpoints
from service.listening import ALL_ADDRESSES, Host, Port
from service.logs import LogFormat, LogLevel
from service.settings import Settings

Seconds = Annotated[float, Field(gt=0, le=3600)]


class GatewaySettings(Settings):
    """Variables of every gateway; each describes the two ports itself, since their defaults differ."""

    control_plane: tuple[str, ...] = Field(
        ("127.0.0.1:50051",),
        description="host:port of control plane replicas, comma separated; a name stands for all its addresses",
    )
    client_id: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="stable name of this gateway, unique among gateways",
    )
    env: Annotated[str, AfterValidator(parse_env)] = Field(
        "dev", description="environment whose bases are served; a DNS label, used in lower case as bases do"
    )
    status_host: Host = Field("", description=f"address that health and metrics listen on; {ALL_ADDRESSES}")
    health_port: Port
    metrics_port: Port
    status_socket: str = Field("", description="Unix socket for probes and metrics instead of the two ports")
    shutdown_timeout: Seconds = Field(
        8.0, description="seconds for orders under way at the end; what is not done by then is reported as unknown"
    )
    log_format: LogFormat = Field(LogFormat.JSON, description="json or console")
    log_level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning or error")

    @field_validator("control_plane", mode="before")
    @classmethod
    def _endpoints(cls, value: Any) -> Any:
        return endpoints.parse_list(value) if isinstance(value, str) else value
