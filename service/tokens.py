"""Tokens that are bound to a base, made from a key and checked with it: nobody keeps a list of them.

A token is ``KEY.MAC.IDENTITY``: the id of the key, HMAC-SHA256 over the identity in base64url, and the identity. It is
safe in URLs. A token ends with its key, so two keys may be in use while tokens are replaced.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.process import StartError

SHORTEST_KEY = 32
"""Characters; ``openssl rand -hex 32`` gives 64."""
LONGEST_KEY = 1024
MOST_KEYS = 2
LONGEST_TOKEN = 512

_KEY = re.compile(r"[\x21-\x7e]+")
_IDENTITY = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_ID_OF_KEY = b"koupleless module controller: id of a key"
_TOKEN_OF_BASE = b"koupleless module controller: token of a base\0"


class WrongKeys(ValueError):
    """Keys cannot be used; the message says why and what to do, and holds no key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A secret from which tokens are made."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The name of the key in its tokens, eight hexadecimal digits; says nothing about the key."""
        return hashlib.sha256(_ID_OF_KEY + self.secret).hexdigest()[:8]

    def token(self, identity: str) -> str:
        """Return the token of a base. Raises ValueError for what cannot be an identity."""
        if not _IDENTITY.fullmatch(identity):
            raise ValueError(f"identity {identity[:64]!r} is not a DNS-1123 subdomain (lower case)")
        mac = hmac.digest(self.secret, _TOKEN_OF_BASE + identity.encode(), "sha256")
        return f"{self.id}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}.{identity}"


def identity_of(token: str, keys: Sequence[Key]) -> str:
    """Return the base that a token is bound to, an empty text if it is not of any of these keys."""
    identity = token.split(".", 2)[-1]
    if len(token) > LONGEST_TOKEN or not token.isascii() or not _IDENTITY.fullmatch(identity):
        return ""
    # All keys are tried: the time says nothing about which one it was.
    fits = [hmac.compare_digest(key.token(identity).encode(), token.encode()) for key in keys]
    return identity if any(fits) else ""


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keys in a text, separated by commas or line ends. Raises WrongKeys."""
    parts = [part.strip() for part in re.split(r"[,\r\n]", text) if part.strip()]
    if not 1 <= len(parts) <= MOST_KEYS:
        raise WrongKeys(f"{len(parts)} keys; give one, or two while tokens are replaced")
    for number, part in enumerate(parts, 1):
        if not SHORTEST_KEY <= len(part) <= LONGEST_KEY or not _KEY.fullmatch(part):
            raise WrongKeys(
                f"key {number} is not {SHORTEST_KEY} to {LONGEST_KEY} printable characters without blanks; "
                "make one with: openssl rand -hex 32"
            )
    return tuple(dict.fromkeys(Key(part.encode()) for part in parts))


def read_keys(variable: str, value: str) -> tuple[Key, ...]:
    """Return the keys that a variable gives, the path of a file (it begins with /) or the keys themselves.

    Raises StartError with variable, cause and fix. Blocks.
    """
    shown = f"{variable}={value}" if value.startswith("/") else f"{variable}=********"
    try:
        return parse_keys(Path(value).read_text("utf-8") if value.startswith("/") else value)
    except WrongKeys as error:
        raise StartError(f"{shown}: {error}") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        cause = (error.strerror if isinstance(error, OSError) else "") or "not text"
        raise StartError(f"{shown}: cannot be read ({cause}); name a file with keys, or give the keys") from None
