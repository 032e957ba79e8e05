"""TLS to the API server, from what is in files or in a kubeconfig. Blocks: not for the event loop's thread."""

import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kubeaccess.authorization import CannotConnect
from service.pem import load_pair

READ_WITHIN = 30.0
"""Seconds that reading files may take, which may be on a disk that hangs."""


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """What a TLS context is made of, as PEM, so that it is not printed. Without a CA the system's are trusted."""

    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    insecure: bool = False


def read(path: str, what: str) -> bytes:
    """Return what is in a file; raises CannotConnect, which names what it is."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CannotConnect(f"{what} {path}: cannot be read ({error.strerror or error})") from error


@lru_cache(maxsize=4)
def context(material: Material) -> ssl.SSLContext:
    """Return a context, the same for the same material so that connections are kept; raises CannotConnect."""
    try:
        made = ssl.create_default_context(cadata=material.ca.decode() if material.ca else None)
    except (ssl.SSLError, ValueError) as error:
        raise CannotConnect(f"certificate-authority: no PEM certificates in it ({_cause(error)})") from error
    # As Go clients do: clusters have CAs without the extensions that strict mode demands.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if material.certificate:
        _load_pair(made, material.certificate, material.key)
    if material.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    try:
        load_pair(context, certificate, key)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        cause = _cause(error)
        raise CannotConnect(f"client-certificate and client-key: no PEM pair that can be used ({cause})") from error


def _cause(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
