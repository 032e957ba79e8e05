"""How a chosen server is talked to: its TLS, and who we are in each call."""

from dataclasses import replace
from pathlib import Path

from kubeaccess.authorization import CannotConnect, bearer
from kubeaccess.tls import Material, context, read
from mctl.auth.choice import Bearer, Connection, ContextUser, LocalTokens, Nobody, Token, TokenFile
from mctl.auth.headers import FETCH_WITHIN, Fixed, Header, KubeconfigHeader, Reread
from mctl.auth.local import admin_token
from mctl.errors import UsageError


class ServerAccess:
    """A server, how it is known to be the right one, and who we are to it."""

    def __init__(self, connection: Connection, *, attended: bool = True, within: float = FETCH_WITHIN) -> None:
        """Read the files that the connection names; attended says that a person is at the terminal.

        Raises UsageError, Unauthenticated.
        """
        self.server = connection.server
        self.server_name = connection.server_name
        self._header = _header(connection.bearer, connection.server, attended=attended, within=within)
        self._renewed = False
        self.tls = _material(connection) if connection.tls else None
        """What the TLS connection is made of, None for plaintext."""
        if self.tls is not None and isinstance(self._header, KubeconfigHeader):
            self._header.value()
            if self._header.certificate:
                self.tls = replace(self.tls, certificate=self._header.certificate, key=self._header.key)

    @property
    def hint(self) -> str:
        """What to do when the server does not know who we are, for people."""
        return self._header.hint

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call that is made now; raises Unauthenticated."""
        value = self._header.value()
        return (("authorization", value),) if value else ()

    def renew(self) -> bool:
        """Have another credential after the server did not accept the last; return whether to ask again with it.

        One renewal at most lies between two calls that the server accepted. Raises Unauthenticated.
        """
        if self._renewed:
            return False
        self._renewed = True
        return self._header.renew()

    def accepted(self) -> None:
        """Note that the server knew who we are."""
        self._renewed = False


def _header(given: Bearer, server: str, *, attended: bool, within: float) -> Header:
    match given:
        case Nobody(why):
            return Fixed("", why)
        case Token(token):
            return Fixed(_checked(token), "the token of --token or MCTL_TOKEN is not accepted: get a new one")
        case TokenFile(path):
            hint = f"the token in {path} is not accepted: get a new one"
            return Reread(lambda: read(path, "token file").decode(errors="replace"), hint)
        case LocalTokens(path):
            port = int(server.rpartition(":")[2])
            hint = f"the token in {path} is of another control plane: use --token-file with that of this one"
            return Reread(lambda: admin_token(Path(path), port), hint)
        case ContextUser():
            return KubeconfigHeader(given, attended=attended, within=within)


def _checked(token: str) -> str:
    try:
        return bearer(token)
    except CannotConnect as error:
        raise UsageError(f"--token or MCTL_TOKEN: {error}") from None


def _material(connection: Connection) -> Material:
    try:
        material = Material(
            ca=read(connection.ca, "CA") if connection.ca else connection.ca_pem.encode(),
            certificate=read(connection.cert, "client certificate") if connection.cert else b"",
            key=read(connection.key, "client key") if connection.key else b"",
        )
        context(material)  # what cannot be used is said here, with its name
    except CannotConnect as error:
        raise UsageError(str(error)) from None
    return material
