"""Whom the gRPC server knows, and what it shows of itself: built from the settings."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, NoReturn

import structlog

from controlplane.access.authenticator import Authenticator
from controlplane.access.localtokens import LocalTokens
from controlplane.access.reviews import Reviewer
from controlplane.app.clock import SystemClock
from controlplane.cluster.api import ApiServer
from controlplane.domain.certificates import Served
from controlplane.rpc.access.guard import Circle
from controlplane.rpc.access.tls import credentials
from controlplane.rpc.server import Server
from controlplane.rpc.settings import Tls
from controlplane.settings import ClusterKind, ControlPlaneSettings
from service.tls import Certificates, Contents

if TYPE_CHECKING:
    from controlplane.certificates.keeper import CertificateKeeper

log = structlog.get_logger(__name__)

PLAINTEXT = "gRPC: without TLS, tokens can be read on the way (GRPC_INSECURE=true)"


@dataclass(frozen=True, slots=True)
class Trust:
    """Callers and certificates; parts run beside the server.

    Certificates are from files, or kept in a Secret, or there are none.
    """

    authenticator: Authenticator
    circle: Circle
    files: Certificates | None
    keeper: "CertificateKeeper | None"
    exposed: bool
    parts: Mapping[str, Callable[[], Coroutine[None, None, NoReturn]]]

    @property
    def ca(self) -> Callable[[], bytes] | None:
        """What returns the CA of the other replicas' certificates, where we keep it."""
        keeper = self.keeper
        if keeper is None:
            return None
        return lambda: keeper.current.ca_pem if keeper.current is not None else b""

    def trouble(self) -> list[str]:
        """Say in words why nobody can connect; nothing if they can."""
        cause = self.keeper.trouble() if self.keeper is not None else None
        return [cause] if cause else []

    def notes(self) -> Sequence[str]:
        """Say in words what is worth knowing of connections."""
        kept = self.keeper.notes() if self.keeper is not None else ()
        return [*kept, *([PLAINTEXT] if self.exposed else [])]

    async def serve(self, server: Server, settings: ControlPlaneSettings) -> NoReturn:
        """Serve, as soon as there is a certificate where one is needed. Raises StartError."""
        keeper = self.keeper
        if keeper is not None:
            await keeper.first()
        host, port = settings.listens_at, settings.grpc_port
        if keeper is None and self.files is None:
            address = server.listen("GRPC_PORT", host, port, None)
        else:
            if settings.grpc_client_ca_path:
                asking = credentials(self._contents, client_certificates=True)
                server.listen("GRPC_CERTIFICATE_PORT", host, settings.grpc_certificate_port, asking)
            address = server.listen("GRPC_PORT", host, port, credentials(self._contents, client_certificates=False))
        await server.start()
        log.info("gRPC served", address=address, tls=settings.tls.value)
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    def _contents(self) -> Contents:
        if self.files is not None:
            return self.files.contents
        served = self.keeper.current if self.keeper is not None else None
        served = served or Served(b"", b"", b"")
        return Contents(served.crt_pem, served.key_pem, b"")


async def build(settings: ControlPlaneSettings, api: ApiServer) -> Trust:
    """Read what is needed; raises StartError."""
    parts: dict[str, Callable[[], Coroutine[None, None, NoReturn]]] = {}
    embedded = settings.kind is ClusterKind.EMBEDDED
    path = settings.local_tokens(embedded=embedded)
    local = LocalTokens(path) if path is not None else None
    if local is not None:
        await local.start()
        parts["local-tokens"] = local.run
    files, keeper = None, None
    match settings.tls:
        case Tls.FILES:
            files = Certificates(settings.grpc_files, "grpc")
            await files.load()
            parts["grpc-certificates"] = files.follow
        case Tls.KEPT:
            from controlplane.certificates.keeper import CertificateKeeper, Place

            place = Place(settings.namespace, settings.tls_secret, settings.grpc_ca_configmap)
            keeper = CertificateKeeper(api, place, SystemClock(), SystemRandom())
            parts["grpc-certificates"] = keeper.run
    exposed = settings.tls is Tls.NONE and not settings.is_local
    if exposed:
        log.warning(PLAINTEXT, fix="set GRPC_CRT_PATH and GRPC_KEY_PATH, and leave GRPC_INSECURE out")
    circle = Circle(
        audience=settings.grpc_audience,
        namespace=settings.namespace,
        gateways=settings.gateways(settings.namespace),
        replicas=settings.replicas(settings.namespace),
    )
    authenticator = Authenticator(local, None if embedded else Reviewer(api))
    return Trust(authenticator, circle, files, keeper, exposed, parts)
