"""Authorization headers, when what they carry ends, and why there is none."""

import base64

import orjson

from service.secrets import register


class CannotConnect(Exception):
    """The configuration of the connection cannot be used; the message says what is wrong with it."""


def bearer(token: str) -> str:
    """Return the Authorization header for a token; raises CannotConnect."""
    token = token.strip()
    if not token:
        raise CannotConnect("the token is empty")
    if not token.isascii() or not token.isprintable():
        raise CannotConnect("the token has characters that no token has")
    register("API server: token", token)
    return f"Bearer {token}"


def basic(username: str, password: str) -> str:
    """Return the Authorization header for a user and password."""
    register("API server: password", password)
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def token_ends_at(token: str) -> float | None:
    """Return when a token ends, in seconds since the epoch: the exp of a JSON Web Token; None if it is not one."""
    parts = token.strip().split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:  # neither Base64 nor JSON
        return None
    ends = claims.get("exp") if isinstance(claims, dict) else None
    return float(ends) if isinstance(ends, int | float) and not isinstance(ends, bool) else None
