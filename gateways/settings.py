"""Settings that all gateways have."""

import socket
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from gateways.arklet.names import parse_env
from gateways.session import endpoints
from grpcclient.access import SERVER_NAME, ClientAccess, ca_file, is_local
from service import localtokens
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
    control_plane_ca_path: str = Field(
        "",
        description="PEM file of the CA of the control plane's certificate; none: plaintext, to this machine only",
    )
    control_plane_server_name: str = Field(
        SERVER_NAME,
        description="name that the control plane's certificate must bear",
    )
    control_plane_token_path: str = Field(
        "",
        description="file of the token that is shown to the control plane, such as a projected service account token; "
        "read again for each connection",
    )
    control_plane_crt_path: str = Field(
        "",
        description="PEM file of the certificate that is shown to the control plane instead of a token",
    )
    control_plane_key_path: str = Field("", description="PEM file of that certificate's key")
    local_tokens_path: str = Field(
        default_factory=lambda: str(localtokens.default_path()),
        description="file of the tokens of this machine; that of a gateway is shown where no other is named",
    )
    grpc_insecure: bool = Field(
        False, description="true: plaintext to other machines, which shows the token to anybody on the way"
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

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if bool(self.control_plane_crt_path) != bool(self.control_plane_key_path):
            pair = f"CONTROL_PLANE_CRT_PATH={self.control_plane_crt_path}"
            pair += f" and CONTROL_PLANE_KEY_PATH={self.control_plane_key_path}"
            raise ValueError(f"{pair}: set both or none")
        if self.control_plane_crt_path and not self.control_plane_ca_path:
            raise ValueError(
                f"CONTROL_PLANE_CRT_PATH={self.control_plane_crt_path}: a certificate is shown over TLS only; set "
                "CONTROL_PLANE_CA_PATH"
            )
        away = [endpoint for endpoint in self.control_plane if not is_local(endpoint)]
        if away and not (self.control_plane_ca_path or self.grpc_insecure):
            raise ValueError(
                f"CONTROL_PLANE={','.join(away)}: plaintext is for this machine only; set CONTROL_PLANE_CA_PATH to the "
                "CA of the control plane, or GRPC_INSECURE=true to take the risk"
            )
        return self

    @property
    def access(self) -> ClientAccess:
        """How the control plane is connected to."""
        return ClientAccess(
            role="gateway",
            ca=ca_file(self.control_plane_ca_path),
            crt_path=self.control_plane_crt_path,
            key_path=self.control_plane_key_path,
            token_path=self.control_plane_token_path,
            tokens_path=self.local_tokens_path,
            server_name=self.control_plane_server_name,
            insecure=self.grpc_insecure,
        )

    @field_validator("control_plane", mode="before")
    @classmethod
    def _endpoints(cls, value: Any) -> Any:
        return endpoints.parse_list(value) if isinstance(value, str) else value
