"""How to talk to the API server: where it is, who we are to it, through what."""

from __future__ import annotations

import base64
import binascii
import ssl
from dataclasses import dataclass
from typing import Any, Protocol

import orjson


class CannotConnect(Exception):
    """The configuration of the connection cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy between us and the API server; scheme is http, https or socks5. It is printed without its secrets."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        """Its URL, without user and password, so that no error of a library has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Proxy({self.url})"


@dataclass(frozen=True, slots=True)
class Access:
    """How to talk to the API server now.

    authorization is a header's value or empty; impersonation is headers that say as whom
    we act; tls is None for plain http; ends_at is when the credential ends (seconds since
    the epoch), None if it does not or nobody says.
    """

    host: str
    authorization: str = ""
    impersonation: tuple[tuple[str, str], ...] = ()
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: Proxy | None = None
    compressed: bool = True
    ends_at: float | None = None

    def __repr__(self) -> str:
        return f"Access({self.host})"


class Credentials(Protocol):
    """Gives the access to use for a request."""

    async def access(self) -> Access:
        """Return the current access; raises CannotConnect."""

    async def rejected(self, access: Access) -> None:
        """Say that the server did not accept an access (401): get another; raises CannotConnect."""

    async def close(self) -> None:
        """End what runs for it."""


class FixedCredentials:
    """Access that never changes."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def access(self) -> Access:
        """Return the access."""
        return self._access

    async def rejected(self, access: Access) -> None:
        """Keep the access, there is no other."""

    async def close(self) -> None:
        """There is nothing to end."""


def bearer(token: str) -> str:
    """Return the Authorization header for a token; raises CannotConnect."""
    token = token.strip()
    if not token:
        raise CannotConnect("the token is empty")
    if not token.isascii() or not token.isprintable():
        raise CannotConnect("the token has characters that no token has")
    return f"Bearer {token}"


def basic(username: str, password: str) -> str:
    """Return the Authorization header for a user and password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def token_ends_at(token: str) -> float | None:
    """Return when a token ends, in seconds since the epoch: the exp of a JSON Web Token; None if it is none."""
    parts = token.strip().split(".")
    if len(parts) != 3:
        return None
    try:
        claims: Any = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    ends = claims.get("exp") if isinstance(claims, dict) else None
    return float(ends) if isinstance(ends, int | float) and not isinstance(ends, bool) else None
