"""What the kubelet API shows of itself: a certificate from files, or the one that is kept in a Secret."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controlplane.domain.certificates import Served
from controlplane.kubelet.settings import OTHERWISE
from service.tls import Contents, Files, Loaded, PemFile, WrongCertificates, context_of


@dataclass(frozen=True, slots=True)
class Shown:
    """Where it comes from. load blocks, and raises WrongCertificates. ready waits for the first; None: it is there."""

    load: Callable[[], Loaded]
    ready: Callable[[], Awaitable[None]] | None = None


def from_files(files: Files) -> Shown:
    """Return what is in files."""
    return Shown(files.load)


def kept(ready: Callable[[], Awaitable[None]], current: Callable[[], Served | None], client_ca: PemFile) -> Shown:
    """Return what current returns once it is ready, with the CA of clients from a file."""

    def load() -> Loaded:
        served = current()
        if served is None:
            raise WrongCertificates("there is no certificate of the kubelet API")
        contents = Contents(served.crt_pem, served.key_pem, client_ca.read(OTHERWISE))
        try:
            return Loaded(contents, context_of(contents))
        except (ssl.SSLError, OSError, ValueError) as error:
            raise WrongCertificates(
                f"the certificate of the kubelet API, or {client_ca}, cannot be used ({error}); "
                "correct the Secret, or name the PEM file of the CA that signs the certificates of clients"
            ) from error

    return Shown(load, ready)
