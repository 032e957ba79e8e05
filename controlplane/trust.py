"""Whom the gRPC server knows, and what it shows of itself: built from the settings."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import NoReturn

import structlog

from controlplane.access.authenticator import Authenticator
from controlplane.access.localtokens import LocalTokens
from controlplane.access.reviews import Reviewer
from controlplane.cluster.api import ApiServer
from controlplane.rpc.access.guard import Circle
from controlplane.rpc.access.tls import credentials
from controlplane.rpc.server import Server
from controlplane.settings import ClusterKind, ControlPlaneSettings
from service.tls import Certificates, Contents

log = structlog.get_logger(__name__)

FIX = "set GRPC_CRT_PATH and GRPC_KEY_PATH, and leave GRPC_INSECURE out"


@dataclass(frozen=True, slots=True)
class Trust:
    """Callers and certificates; parts run beside the server."""

    authenticator: Authenticator
    circle: Circle
    certificates: Certificates | None
    parts: Mapping[str, Callable[[], Coroutine[None, None, NoReturn]]]

    def listen(self, server: Server, settings: ControlPlaneSettings) -> str:
        """Listen on the ports of the settings; returns the address for tokens. Raises StartError."""
        host, port, found = settings.listens_at, settings.grpc_port, self.certificates
        if found is None:
            return server.listen("GRPC_PORT", host, port, None)

        def contents() -> Contents:
            return found.contents

        if settings.grpc_client_ca_path:
            asking = credentials(contents, client_certificates=True)
            server.listen("GRPC_CERTIFICATE_PORT", host, settings.grpc_certificate_port, asking)
        return server.listen("GRPC_PORT", host, port, credentials(contents, client_certificates=False))


async def build(settings: ControlPlaneSettings, api: ApiServer) -> Trust:
    """Read what is needed; raises StartError."""
    parts: dict[str, Callable[[], Coroutine[None, None, NoReturn]]] = {}
    embedded = settings.kind is ClusterKind.EMBEDDED
    path = settings.local_tokens(embedded=embedded)
    local = LocalTokens(path) if path is not None else None
    if local is not None:
        await local.start()
        parts["local-tokens"] = local.run
    certificates = None
    if settings.grpc_crt_path:
        certificates = Certificates(settings.grpc_files, "grpc")
        await certificates.load()
        parts["grpc-certificates"] = certificates.follow
    elif not settings.is_local:
        log.warning("gRPC without TLS can be reached from other machines: tokens can be read on the way", fix=FIX)
    circle = Circle(
        audience=settings.grpc_audience,
        namespace=settings.namespace,
        gateways=settings.gateways(settings.namespace),
        replicas=settings.replicas(settings.namespace),
    )
    return Trust(Authenticator(local, None if embedded else Reviewer(api)), circle, certificates, parts)
