"""The kubelet API's TLS: certificate, key and the clients' CA, from files that may change at any time.

cert-manager and the like replace a certificate long before it ends. Connections that are made after that get the new
one; files that cannot be used leave the old in place.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from service.process import StartError

Contents: TypeAlias = tuple[bytes, bytes, bytes]

CRT, KEY, CA = "KUBELET_PROXY_CRT_PATH", "KUBELET_PROXY_KEY_PATH", "KUBELET_PROXY_CLIENT_CA_PATH"


class WrongCertificates(StartError):
    """The files cannot be used; the message names variable, value, cause and fix."""


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of the server's certificate (with its chain) and key, and of the CA of client certificates."""

    crt: str
    key: str
    client_ca: str

    def load(self) -> tuple[Contents, ssl.SSLContext]:
        """Return contents and what a server needs; clients may show a certificate. Raises WrongCertificates. Blocks."""
        contents = _read(CRT, self.crt), _read(KEY, self.key), _read(CA, self.client_ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.crt, self.key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise WrongCertificates(
                f"{CRT}={self.crt} and {KEY}={self.key}: not a certificate and its key ({_cause(error)}); "
                "both must be PEM, of one pair, and the key without a password"
            ) from error
        try:
            context.load_verify_locations(cafile=self.client_ca)
        except (ssl.SSLError, OSError) as error:
            raise WrongCertificates(
                f"{CA}={self.client_ca}: no CA certificates in it ({_cause(error)}); "
                "name the PEM file of the CA that signs the API server's kubelet client certificate"
            ) from error
        return contents, context


def _read(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise WrongCertificates(
            f"{variable}={path}: cannot be read ({_cause(error)}); mount a certificate there, name another file with "
            f"{variable}, or leave KUBELET_PROXY_ENABLED out"
        ) from error


def _no_password() -> NoReturn:
    raise ValueError("the key has a password")


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
