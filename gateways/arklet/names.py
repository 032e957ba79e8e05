"""Which identities a base may have: it becomes part of a Node name and of topics.

The default hook of a base gives its IPv4 address, which passes; when it finds none it makes up a new mixed-case name
for every heartbeat, which must not.
"""

import re

from gateways.arklet.text import clip

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ENV = re.compile(_LABEL)
_SHOWN = 64
MAX_NODE_NAME = 253


class InvalidName(ValueError):
    """A name cannot be used; the message says why, for people."""


def parse_env(text: str) -> str:
    """Return the environment in lower case, as bases have it in their topics.

    Raises InvalidName: a dot in it would make Node names ambiguous.
    """
    env = text.lower()
    if not _ENV.fullmatch(env):
        raise InvalidName(
            f"environment {clip(text, _SHOWN)!r} is not a DNS label (letters, digits and '-', at most 63)"
        )
    return env


def parse_identity(text: str, env: str) -> str:
    """Return the identity if a Node vnode.IDENTITY.ENV can exist. Raises InvalidName."""
    if not text:
        raise InvalidName("identity is missing")
    if not _SUBDOMAIN.fullmatch(text):
        raise InvalidName(
            f"identity {clip(text, _SHOWN)!r} is not a DNS-1123 subdomain (lower-case letters, digits, '-', '.')"
        )
    if len(f"vnode.{text}.{env}") > MAX_NODE_NAME:
        raise InvalidName(f"identity {clip(text, _SHOWN)!r} makes a Node name longer than {MAX_NODE_NAME} characters")
    return text
