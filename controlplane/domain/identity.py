"""Names of bases, VNodes and modules, and what makes them valid.

A base's identity is a free string chosen by the base; it becomes part of a Node name and of MQTT topics, so only
DNS-1123 subdomains are accepted.
"""

import re
from typing import NamedTuple, NewType

BaseId = NewType("BaseId", str)
VNodeName = NewType("VNodeName", str)
OrderId = NewType("OrderId", str)

_LABEL_FORM = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL_FORM}(?:\.{_LABEL_FORM})*")
LABEL = re.compile(_LABEL_FORM)
QUALIFIED_NAME = re.compile(
    rf"(?:(?=[^/]{{1,253}}/){_SUBDOMAIN.pattern}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
)
"""Key of a label or annotation, name of a resource: with or without the domain of who defines it."""
_PREFIX = "vnode"
MAX_NAME = 253


class InvalidName(ValueError):
    """A name from outside cannot be used; the message says why, for people."""


class ModuleKey(NamedTuple):
    """A module's identity inside a base: bizName and bizVersion."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


def parse_module_key(text: str) -> ModuleKey | None:
    """Return the module that NAME:VERSION names, or None; both parts must be there, and one colon."""
    name, _, version = text.partition(":")
    return ModuleKey(name, version) if name and version and ":" not in version else None


def parse_env(text: str) -> str:
    """Return the environment in lower case, as bases use it in topics.

    Raises InvalidName: a dot in it would make Node names ambiguous.
    """
    env = text.lower()
    if not LABEL.fullmatch(env):
        raise InvalidName(f"environment {text!r} is not a DNS label (letters, digits and '-', at most 63)")
    return env


def parse_base_id(text: str, env: str) -> BaseId:
    """Return the identity of a base if a Node can be named after it.

    Raises InvalidName.
    """
    if not text:
        raise InvalidName("identity is missing")
    shown = text if len(text) <= 64 else text[:61] + "..."
    if not _SUBDOMAIN.fullmatch(text):
        raise InvalidName(f"identity {shown!r} is not a DNS-1123 subdomain (lower-case letters, digits, '-' and '.')")
    if len(node_name(BaseId(text), env)) > MAX_NAME:
        raise InvalidName(f"identity {shown!r} makes a Node name longer than {MAX_NAME} characters")
    return BaseId(text)


def node_name(base: BaseId, env: str) -> VNodeName:
    """Return the name that Node and Lease of a base have: vnode.IDENTITY.ENV."""
    return VNodeName(f"{_PREFIX}.{base}.{env}")


def base_of_node(name: str, env: str) -> BaseId | None:
    """Return whose Node or Lease this is, or None if it is no VNode of this environment."""
    identity = BaseId(name.removeprefix(f"{_PREFIX}.").removesuffix(f".{env}"))
    return identity if node_name(identity, env) == name and _SUBDOMAIN.fullmatch(identity) else None
