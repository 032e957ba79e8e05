"""Settings of the gRPC server: where it listens, its certificate, who its gateways and replicas are."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from grpcclient.access import SERVER_NAME, ClientAccess, ca_file
from service import localtokens
from service.listening import Host, Port, is_loopback
from service.settings import Settings
from service.tls import Files, PemFile

TLS_SECRET, CA_CONFIG_MAP = "module-controller-grpc-tls", "module-controller-grpc-ca"
AUDIENCE = "module-controller.koupleless.io"
GATEWAYS = ("http-gateway", "mqtt-gateway")
"""Service accounts of the gateways, in the control plane's namespace."""

Name = Annotated[str, StringConstraints(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^\S+$")]


class Tls(Enum):
    """Where the certificate of the server comes from."""

    NONE = "none"
    FILES = "files"
    KEPT = "kept"
    """One Secret, in which the control plane makes and renews it."""


class GrpcSettings(Settings):
    """Variables of the gRPC server."""

    grpc_host: Host = Field(
        "",
        description="address that gRPC listens on; :: or 0.0.0.0 means all, IPv4 and IPv6; "
        "none: all with a certificate, else this machine only",
    )
    grpc_port: Port = Field(50051, description="TCP port of gRPC, for gateways and tools")
    grpc_crt_path: str = Field(
        "", description="PEM file of gRPC's certificate; it and the next two are read again when they change"
    )
    grpc_key_path: str = Field("", description="PEM file of that certificate's key")
    grpc_tls_secret: Name = Field(
        "",
        description="Secret in NAMESPACE in which the control plane makes and renews gRPC's certificate, or finds that "
        f"of somebody else; none: {TLS_SECRET} in a Pod where gRPC is not for this machine only",
    )
    grpc_ca_configmap: Name = Field(
        CA_CONFIG_MAP, description="ConfigMap in NAMESPACE that has the CA of that certificate, for gateways and tools"
    )
    grpc_client_ca_path: str = Field(
        "",
        description="PEM file of the CA whose client certificates are accepted at GRPC_CERTIFICATE_PORT; "
        "none: callers show tokens only",
    )
    grpc_certificate_port: Port = Field(
        50052, description="TCP port of gRPC for callers with client certificates; used with GRPC_CLIENT_CA_PATH"
    )
    grpc_ca_path: str = Field(
        "", description="PEM file of the CA of the replicas' certificates, by which they know each other"
    )
    grpc_server_name: Word = Field(SERVER_NAME, description="name that the certificates of the replicas bear")
    grpc_insecure: bool = Field(
        False,
        description="true: gRPC without TLS beyond this machine, which shows tokens to anybody on the way; "
        "callers are asked who they are all the same",
    )
    grpc_audience: Word = Field(
        AUDIENCE, description="audience of service account tokens that are meant for the control plane"
    )
    grpc_gateway_users: tuple[str, ...] = Field(
        (),
        description="users that are gateways, comma separated; "
        f"none: the service accounts {' and '.join(GATEWAYS)} in NAMESPACE",
    )
    grpc_replica_users: tuple[str, ...] = Field(
        (), description="users that are replicas; none: the service account module-controller in NAMESPACE"
    )
    grpc_token_path: str = Field(
        "",
        description="file of the token that this replica shows to the others, such as a service account's",
    )
    local_tokens_path: str = Field(
        "",
        description="file of the tokens of this machine, made if it is not there; none: one in the state folder where "
        "gRPC listens on this machine only, or the cluster is embedded",
    )

    @field_validator("grpc_gateway_users", "grpc_replica_users", mode="before")
    @classmethod
    def _users(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _closed(self) -> Self:
        pair = f"GRPC_CRT_PATH={self.grpc_crt_path} and GRPC_KEY_PATH={self.grpc_key_path}"
        if bool(self.grpc_crt_path) != bool(self.grpc_key_path):
            raise ValueError(f"{pair}: set both, or none")
        if self.grpc_client_ca_path and not self.grpc_crt_path:
            raise ValueError(
                f"GRPC_CLIENT_CA_PATH={self.grpc_client_ca_path}: client certificates need TLS; set GRPC_CRT_PATH and "
                "GRPC_KEY_PATH"
            )
        if self.grpc_host and self.tls is Tls.NONE and not (self.grpc_insecure or is_loopback(self.grpc_host)):
            raise ValueError(
                f"GRPC_HOST={self.grpc_host}: gRPC without TLS is for this machine only; set GRPC_CRT_PATH and "
                "GRPC_KEY_PATH, or GRPC_TLS_SECRET, or GRPC_HOST=127.0.0.1, or GRPC_INSECURE=true to take the risk"
            )
        return self

    @property
    def tls(self) -> Tls:
        """Where the server's certificate comes from."""
        if self.grpc_crt_path:
            return Tls.FILES
        local = bool(self.grpc_host) and is_loopback(self.grpc_host)
        if self.grpc_tls_secret or (self.in_pod and not (local or self.grpc_insecure)):
            return Tls.KEPT
        return Tls.NONE

    @property
    def in_pod(self) -> bool:
        """Whether the program works on the cluster in which it is a Pod."""
        return False

    @property
    def tls_secret(self) -> str:
        """The Secret of the certificate."""
        return self.grpc_tls_secret or TLS_SECRET

    @property
    def listens_at(self) -> str:
        """The host that gRPC listens on; empty means all addresses."""
        if self.grpc_host or self.tls is not Tls.NONE or self.grpc_insecure:
            return self.grpc_host
        return "127.0.0.1"

    @property
    def grpc_ports(self) -> tuple[int, ...]:
        """The ports that gRPC listens on."""
        return (self.grpc_port, *([self.grpc_certificate_port] if self.grpc_client_ca_path else []))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach gRPC."""
        return bool(self.listens_at) and is_loopback(self.listens_at)

    @property
    def grpc_files(self) -> Files:
        """The certificate files of the server; with a client CA where one is set."""
        ca = PemFile("GRPC_CLIENT_CA_PATH", self.grpc_client_ca_path) if self.grpc_client_ca_path else None
        return Files(
            PemFile("GRPC_CRT_PATH", self.grpc_crt_path),
            PemFile("GRPC_KEY_PATH", self.grpc_key_path),
            ca,
            otherwise="leave GRPC_CRT_PATH and GRPC_KEY_PATH out to serve this machine only",
            alpn=("h2",),
        )

    def local_tokens(self, *, embedded: bool) -> Path | None:
        """Return the file of the tokens of this machine; None where there are none."""
        if self.local_tokens_path:
            return Path(self.local_tokens_path)
        return localtokens.default_path() if embedded or self.is_local else None

    def gateways(self, namespace: str) -> frozenset[str]:
        """Return the users that are gateways."""
        accounts = (f"system:serviceaccount:{namespace}:{name}" for name in GATEWAYS)
        return frozenset(self.grpc_gateway_users or accounts)

    def replicas(self, namespace: str) -> frozenset[str]:
        """Return the users that are replicas."""
        return frozenset(self.grpc_replica_users or (f"system:serviceaccount:{namespace}:module-controller",))

    def to_replicas(self, ca: Callable[[], bytes] | None) -> ClientAccess:
        """Return how this replica connects to the others; ca returns the CA of their certificates."""
        return ClientAccess(
            role="replica",
            ca=ca_file(self.grpc_ca_path) or ca,
            token_path=self.grpc_token_path,
            tokens_path=self.local_tokens_path,
            server_name=self.grpc_server_name,
            insecure=self.grpc_insecure,
        )
