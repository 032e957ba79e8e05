"""Certificates of the gRPC server: each handshake takes those of its moment, and streams that are open go on."""

from collections.abc import Callable
from typing import Any, cast

import grpc

from service.tls import Contents


def credentials(now: Callable[[], Contents], *, client_certificates: bool) -> grpc.ServerCredentials:
    """Return what a port serves with; with client certificates, who shows none is not connected.

    gRPC for Python has nothing between asking everybody for a certificate and asking nobody.
    """

    def configuration(contents: Contents) -> grpc.ServerCertificateConfiguration:
        ca = contents.client_ca if client_certificates else None
        return grpc.ssl_server_certificate_configuration([(contents.key, contents.crt)], root_certificates=ca)

    used = now()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Return the certificates, None while they are those that were used last; called in threads of gRPC."""
        nonlocal used
        found = now()
        if found == used:
            return None
        used = found
        return configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        configuration(used), cast("Any", changed), require_client_authentication=client_certificates
    )
