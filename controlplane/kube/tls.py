"""TLS to the API server, from what is in files or in a kubeconfig. Blocks: not for the event loop's thread."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from controlplane.kube.access import CannotConnect


@dataclass(frozen=True, slots=True)
class Material:
    """What a TLS context is made of, as PEM. No ca: the system's certificates are believed."""

    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    insecure: bool = False

    def __repr__(self) -> str:
        return "Material()"


class Contexts:
    """Makes TLS contexts; the same material gives the same context, so that connections are kept."""

    def __init__(self) -> None:
        self._made: tuple[Material, ssl.SSLContext] | None = None

    def context(self, material: Material) -> ssl.SSLContext:
        """Return the context; raises CannotConnect."""
        if self._made is None or self._made[0] != material:
            self._made = material, _context(material)
        return self._made[1]


def read(path: str, what: str) -> bytes:
    """Return what is in a file; raises CannotConnect, which names what it is."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CannotConnect(f"{what} {path}: cannot be read ({error.strerror or error})") from error


def _context(material: Material) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=material.ca.decode() if material.ca else None)
    except (ssl.SSLError, ValueError) as error:
        raise CannotConnect(f"certificate-authority: no PEM certificates in it ({_cause(error)})") from error
    # As Go clients do: clusters have CAs without the extensions that strict mode demands.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if material.certificate:
        _load_pair(context, material.certificate, material.key)
    if material.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL's interface in Python takes files only. This one is in memory: no key is left on a disk.
    descriptor = os.memfd_create("client-certificate")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(certificate.rstrip() + b"\n" + key)
        # A password that is asked for on the terminal would hang the start.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        cause = _cause(error)
        raise CannotConnect(f"client-certificate and client-key: no PEM pair that can be used ({cause})") from error
    finally:
        os.close(descriptor)


def _cause(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
