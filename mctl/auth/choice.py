"""Which credential goes to which server: a decision over what the places say, without files and sockets.

A credential of the kubeconfig goes to a server only when the user named that server's CA, or named the context; and
only over TLS. Plaintext is for loopback addresses alone. So a server that somebody else put in the place of the right
one, or a misspelt one, gets nothing.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Self

from mctl.errors import UsageError

DEFAULT_SERVER = "127.0.0.1:50051"

_TLS_FIRST = "name the CA of the control plane with --ca or MCTL_CA, which turns TLS on"


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """What one place says: a command line, the environment, a saved login. Empty means that it says nothing.

    ca, cert, key and token_file are paths; kubeconfig is a list of paths as KUBECONFIG has it. It is not printed, for
    its secrets.
    """

    server: str = ""
    ca: str = ""
    server_name: str = ""
    token: str = ""
    token_file: str = ""
    cert: str = ""
    key: str = ""
    kubeconfig: str = ""
    context: str = ""

    @property
    def has_credentials(self) -> bool:
        """Whether it says who we are."""
        return any((self.token, self.token_file, self.cert, self.key, self.kubeconfig, self.context))

    def checked(self) -> Self:
        """Return this when it is unambiguous; raises UsageError."""
        if sum(map(bool, (self.token, self.token_file, self.kubeconfig or self.context))) > 1:
            raise UsageError(
                "a token, a token file and a kubeconfig exclude each other: give one of --token (MCTL_TOKEN), "
                "--token-file (MCTL_TOKEN_FILE) and --context or --kubeconfig (MCTL_CONTEXT, MCTL_KUBECONFIG)"
            )
        if bool(self.cert) != bool(self.key):
            raise UsageError("a client certificate and its key belong together: give --cert and --key")
        return self


@dataclass(frozen=True, slots=True, repr=False)
class Login(Given):
    """What mctl login saved for one server; ca_pem is a copy of the CA."""

    ca_pem: str = ""


@dataclass(frozen=True, slots=True)
class Logins:
    """All saved logins by server, and the server that is asked by default."""

    current: str = ""
    servers: dict[str, Login] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What is on this machine: the token file of a control plane, and the kubeconfig files; empty where none is."""

    local_tokens: str = ""
    kubeconfig: str = ""


@dataclass(frozen=True, slots=True)
class Nobody:
    """No credential is sent; why says what would change that, for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token that was given."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A bearer token in a file, which may be replaced at any time."""

    path: str


@dataclass(frozen=True, slots=True)
class LocalTokens:
    """The token file that the control plane of this machine wrote."""

    path: str


@dataclass(frozen=True, slots=True)
class ContextUser:
    """The user of a context of kubeconfig files, the current one where none is named; optional: nobody if unusable."""

    paths: str
    context: str = ""
    optional: bool = False


Bearer = Nobody | Token | TokenFile | LocalTokens | ContextUser


@dataclass(frozen=True, slots=True)
class Connection:
    """The server, how it is known to be the right one, and who we are to it.

    ca is a path, else ca_pem has the CA; with neither the public CAs are trusted. Without tls all of these are empty.
    """

    server: str
    tls: bool
    bearer: Bearer
    ca: str = ""
    ca_pem: str = ""
    server_name: str = ""
    cert: str = ""
    key: str = ""


def is_loopback(server: str) -> bool:
    """Return whether host:port is on this machine, whoever answers questions about names."""
    host = server.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def choose(places: Sequence[Given], logins: Logins, found: Found) -> Connection:
    """Return what the places say, the first that says something going before the others; raises UsageError.

    Credentials are taken from one place as a whole, so that none is mixed with a lower one's. Those of a login are for
    its server only.
    """
    server = _first(places, "server") or logins.current or DEFAULT_SERVER
    login = logins.servers.get(server, Login())
    user = next((place.checked() for place in (*places, login) if place.has_credentials), Given())
    ca, server_name = _first(places, "ca"), _first((*places, login), "server_name")
    ca_pem = "" if ca else login.ca_pem
    tls = not is_loopback(server) or any((ca, ca_pem, server_name, user.cert))
    bearer = _named(user, tls=tls, found=found) if user.has_credentials else _by_itself(ca or ca_pem, tls, found)
    return Connection(server, tls, bearer, ca, ca_pem, server_name, user.cert, user.key)


def _named(user: Given, *, tls: bool, found: Found) -> Bearer:
    if user.token:
        return Token(user.token)
    if user.token_file:
        return TokenFile(user.token_file)
    if user.kubeconfig or user.context:
        if not tls:
            raise UsageError(f"credentials of a kubeconfig are sent over TLS only: {_TLS_FIRST}")
        if not (user.kubeconfig or found.kubeconfig):
            raise UsageError(f"there is no kubeconfig with the context {user.context}: name the file with --kubeconfig")
        return ContextUser(user.kubeconfig or found.kubeconfig, user.context)
    return Nobody("the client certificate is not known to the control plane: give another one, or a token")


def _by_itself(ca: str, tls: bool, found: Found) -> Bearer:
    if not tls:
        if found.local_tokens:
            return LocalTokens(found.local_tokens)
        return Nobody(
            "no credential was given: use --token-file or --token; to be the user of the kubeconfig, " + _TLS_FIRST
        )
    if not ca:
        return Nobody(
            "no credential was given, and the kubeconfig's is not sent to a server whose CA you did not name: "
            "use --ca or mctl login, or choose a user with --context or a token with --token-file"
        )
    if not found.kubeconfig:
        return Nobody("no credential was given, and there is no kubeconfig: use --token-file, --token or --kubeconfig")
    return ContextUser(found.kubeconfig, optional=True)


def _first(places: Sequence[Given], name: str) -> str:
    return next((value for place in places if (value := getattr(place, name))), "")


NAMES = tuple(each.name for each in fields(Given))
"""What a place may say."""
