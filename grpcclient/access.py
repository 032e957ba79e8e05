"""What a client shows to the control plane, and how it knows that it talks to the control plane.

All files are read for each connection: tokens of service accounts and certificates are replaced while programs run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import grpc

from service import localtokens
from service.listening import is_loopback
from service.secrets import register

Options: TypeAlias = Sequence[tuple[str, str | int]]
Metadata: TypeAlias = tuple[tuple[str, str], ...]

SERVER_NAME = "module-controller"
"""The name that certificates of the control plane bear, unless a setting says another."""


class NoAccess(Exception):
    """A connection cannot be made as it should be; the message has cause and fix."""


@dataclass(frozen=True, slots=True)
class ClientAccess:
    """How one program connects.

    ca returns the CA of the control plane's certificate, as PEM. Without one the connection is plaintext, which is for
    this machine only unless insecure says otherwise. role is that of the token of this machine that is shown where no
    token file is named. Empty paths are left out.
    """

    role: str
    ca: Callable[[], bytes] | None = None
    crt_path: str = ""
    key_path: str = ""
    token_path: str = ""
    tokens_path: str = ""
    server_name: str = SERVER_NAME
    insecure: bool = False

    def channel(self, address: str, options: Options) -> grpc.aio.Channel:
        """Return a channel to host:port; raises NoAccess."""
        if self.ca is None:
            if not (self.insecure or is_local(address)):
                raise NoAccess(
                    f"{address} is not on this machine and no CA is set: plaintext would show our token to anybody on "
                    "the way; name the CA of the control plane"
                )
            return grpc.aio.insecure_channel(address, options=options)
        credentials = grpc.ssl_channel_credentials(
            self.ca(),
            _read(self.key_path) if self.key_path else None,
            _read(self.crt_path) if self.crt_path else None,
        )
        named = [*options, ("grpc.ssl_target_name_override", self.server_name)]
        return grpc.aio.secure_channel(address, credentials, options=named)

    def metadata(self, address: str) -> Metadata:
        """Return what goes with a call to host:port: the bearer token, if there is one; raises NoAccess."""
        if self.token_path:
            token = _read(self.token_path).decode("ascii", errors="replace").strip()
            if not (token.isascii() and token.isprintable()):
                raise NoAccess(f"{self.token_path}: has characters that no token has: name a file with one token")
        elif self.crt_path:
            token = ""
        else:
            token = self._local(address) if is_local(address) else ""
        register("token for the control plane", token)
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _local(self, address: str) -> str:
        path = Path(self.tokens_path) if self.tokens_path else localtokens.default_path()
        try:
            return localtokens.for_server(path, self.role, int(address.rpartition(":")[2]))
        except FileNotFoundError:
            return ""
        except localtokens.WrongTokenFile as error:
            raise NoAccess(f"{path}: {error}") from error


def is_local(address: str) -> bool:
    """Return whether host:port is on this machine."""
    return is_loopback(address.rpartition(":")[0].strip("[]"))


def ca_file(path: str) -> Callable[[], bytes] | None:
    """Return what reads a CA's file, which raises NoAccess; None for an empty path."""
    return partial(_read, path) if path else None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise NoAccess(f"{path}: cannot be read ({error.strerror})") from error
