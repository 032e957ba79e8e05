"""TLS of servers: certificate, key and the clients' CA, from files that may change at any time.

cert-manager and the like replace a certificate long before it ends. Connections that are made after that get the new
one; files that cannot be used leave the old in place.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from service.following import LOOK_EVERY, Followed
from service.pem import load_pair, no_password
from service.process import StartError

_READS = 3
"""Reads at most until two agree: a renewal may replace the files in between."""


class WrongCertificates(StartError):
    """The files cannot be used; the message names variable, value, cause and fix."""


@dataclass(frozen=True, slots=True)
class PemFile:
    """A PEM file, and the variable that names it."""

    variable: str
    path: str

    def __str__(self) -> str:
        return f"{self.variable}={self.path}"

    def read(self, otherwise: str) -> bytes:
        """Return the content. Raises WrongCertificates, which offers otherwise as the last way out."""
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise WrongCertificates(
                f"{self}: cannot be read ({_cause(error)}); mount a certificate there, name another file with "
                f"{self.variable}, or {otherwise}"
            ) from error


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files hold, in PEM; client_ca is empty where no client certificates are asked for."""

    crt: bytes
    key: bytes = field(repr=False)
    client_ca: bytes


@dataclass(frozen=True, slots=True)
class Files:
    """A server's certificate (with its chain) and key, and the CA of client certificates, which may be left out.

    otherwise says how to do without these files, for people: "leave KUBELET_PROXY_ENABLED out". alpn names the
    protocols that the server speaks.
    """

    crt: PemFile
    key: PemFile
    client_ca: PemFile | None
    otherwise: str
    alpn: tuple[str, ...] = ("http/1.1",)

    def load(self) -> "Loaded":
        """Return contents and a server's context of the same contents. Raises WrongCertificates. Blocks.

        With a client CA, clients may show a certificate.
        """
        contents = self._read()
        for _ in range(_READS):
            context = self._context()
            before, contents = contents, self._read()
            if contents == before:
                return Loaded(contents, context)
        raise WrongCertificates(
            f"{self.crt} and {self.key}: the files change while they are read; replace them at once"
        )

    def _read(self) -> Contents:
        ca = b"" if self.client_ca is None else self.client_ca.read(self.otherwise)
        return Contents(self.crt.read(self.otherwise), self.key.read(self.otherwise), ca)

    def _context(self) -> ssl.SSLContext:
        context = empty_context(self.alpn, client_certificates=self.client_ca is not None)
        try:
            context.load_cert_chain(self.crt.path, self.key.path, password=no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise WrongCertificates(
                f"{self.crt} and {self.key}: not a certificate and its key ({_cause(error)}); "
                "both must be PEM, of one pair, and the key without a password"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(cafile=self.client_ca.path)
            except (ssl.SSLError, OSError) as error:
                raise WrongCertificates(
                    f"{self.client_ca}: no CA certificates in it ({_cause(error)}); "
                    "name the PEM file of the CA that signs the certificates of clients"
                ) from error
        return context


@dataclass(frozen=True, slots=True)
class Loaded:
    """Contents, and a server's context of them; equal when the contents are."""

    contents: Contents
    context: ssl.SSLContext = field(compare=False)


class Certificates:
    """The certificates of one server as they are now; server names it in metrics and logs."""

    def __init__(self, files: Files, server: str, *, look_every: float = LOOK_EVERY) -> None:
        self._files = files
        self._followed = Followed(files.load, server, look_every=look_every)
        self.load = self._followed.load
        self.follow = self._followed.follow
        self.changed = self._followed.changed

    @property
    def contents(self) -> Contents:
        """What is in use; load comes first."""
        return self._followed.current.contents

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the certificates in use, for the next connection; load comes first."""
        return self._followed.current.context

    def following_context(self) -> ssl.SSLContext:
        """Return one context for servers that keep theirs: each handshake takes the certificates of its moment.

        Without a client CA only: a resumed session would not be checked against a CA that changed.
        """
        if self._files.client_ca is not None:
            raise ValueError("a server with a client CA takes the present context for each connection")
        following = empty_context(self._files.alpn, client_certificates=False)

        def choose(connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _own: ssl.SSLContext) -> None:
            connection.context = self.context

        # Called in each handshake, also in one that names no server.
        following.sni_callback = choose
        return following


def context_of(contents: Contents, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """Return a server's context of contents that are in no file. Raises ssl.SSLError, ValueError. Blocks."""
    context = empty_context(alpn, client_certificates=bool(contents.client_ca))
    load_pair(context, contents.crt, contents.key)
    if contents.client_ca:
        context.load_verify_locations(cadata=contents.client_ca.decode("ascii"))
    return context


def empty_context(alpn: tuple[str, ...], *, client_certificates: bool) -> ssl.SSLContext:
    """Return a server's context without a certificate: TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL if client_certificates else ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
