"""Who may call: tokens in the path or in the header, shared or bound to a base.

An unmodified base sends no header of ours: it posts to its configured URL and a name. So the token may be a part of
that URL: ``http://controller:7777/t/TOKEN`` makes the base post to ``/t/TOKEN/heartbeat``.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from service.addresses import AddressRefused, parse
from service.refusals import RequestRefused
from service.tokens import Key, identity_of

_SCHEME = "Bearer "


class Place(NamedTuple):
    """Where a request goes, and the token that its path has."""

    path: str
    token: str


def locate(raw_path: str) -> Place:
    """Return the place that a path names, which is the path itself unless it has a token."""
    match raw_path.split("/"):
        case ["", "t", token, name] if token:
            return Place(f"/{name}", unquote(token, errors="surrogateescape"))
    return Place(raw_path, "")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the peer's address, and the base that its token is bound to, if it is."""

    peer: str = ""
    bound_to: str = ""

    def check_identity(self, base: str) -> None:
        """Raise RequestRefused unless the caller may speak for a base."""
        if self.bound_to and self.bound_to != base:
            raise RequestRefused(403, "other_base", f"the token is for base {self.bound_to}, not for {base}")

    def check_address(self, ip: str) -> None:
        """Raise RequestRefused unless the caller has the address, in its plain form, that it says it has."""
        try:
            peer = str(parse(self.peer.partition("%")[0]))
        except AddressRefused:
            peer = self.peer
        if peer != ip:
            raise RequestRefused(
                403,
                "peer",
                f"localIP {ip} is not {peer}, from where the request comes; behind a proxy or NAT "
                "HTTP_TUNNEL_PEER_CHECK must be off",
            )


@dataclass(frozen=True, slots=True)
class Credentials:
    """The shared token, and the keys of bound ones; without either everybody may call."""

    shared: str = field(default="", repr=False)
    keys: Callable[[], Sequence[Key]] = tuple

    def caller(self, peer: str, token: str, authorization: str) -> Caller:
        """Return who calls with a token in the path or a header Authorization. Raises RequestRefused."""
        keys = self.keys()
        given = token or (authorization.removeprefix(_SCHEME) if authorization.startswith(_SCHEME) else "")
        if not self.shared and not keys:
            return Caller(peer)
        if self.shared and hmac.compare_digest(_bytes(given), _bytes(self.shared)):
            return Caller(peer)
        if bound_to := identity_of(given, keys):
            return Caller(peer, bound_to)
        raise RequestRefused(401, "token", "token missing or wrong", {"WWW-Authenticate": "Bearer"})


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
