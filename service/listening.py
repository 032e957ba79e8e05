"""TCP ports that programs listen on: on both families of addresses, unless a setting names one address.

Each family has a socket of its own, so that IPv4 peers are seen by their IPv4 address. A family that the machine does
not have (IPv6 where the kernel was started with ipv6.disable=1) is left out, with a line in the log.
"""

import asyncio
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Annotated, Any

import structlog
from pydantic import AfterValidator, Field

from service.process import StartError

log = structlog.get_logger(__name__)

BACKLOG = 1024
"""Connections that wait to be accepted; the kernel may allow fewer."""

ALL_ADDRESSES = "none or :: means all, IPv4 and IPv6; 0.0.0.0 all of IPv4"
"""What a setting of the type Host may be besides one address, for its description."""

_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_EVERYWHERE = ((socket.AF_INET, ("0.0.0.0", 0)), (socket.AF_INET6, ("::", 0)))  # noqa: S104 - it is what is asked for
_THIS_MACHINE = ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)))
LOCALHOST = "localhost"
"""The host that stands for the loopback addresses of both families, whatever a resolver says of it."""
_TABLE = {"": _EVERYWHERE, "::": _EVERYWHERE, LOCALHOST: _THIS_MACHINE}
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9._]*[A-Za-z0-9])?")


class CannotListen(StartError):
    """A port cannot be listened on; the message names variable, value, cause and fix."""

    def __init__(self, variable: str, where: object, error: OSError) -> None:
        fix = f"stop what uses it or choose another with {variable}"
        if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            fix = "name an address of this machine"
        super().__init__(f"{variable}={where}: cannot listen there ({cause_of(error)}); {fix}")


def cause_of(error: OSError) -> str:
    """Return why an operation on a socket failed; the texts of Python's own modules name the address once more."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def parse_host(text: str) -> str:
    """Return the host of a setting, an IPv6 address without its brackets; raises ValueError."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if host and not _NAME.fullmatch(host) and not is_address(host):
        raise ValueError("neither an address nor a host name (the port has a variable of its own)")
    return host


Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, AfterValidator(parse_host)]
"""Where a program listens: an address or a host name; empty, as a default, and :: stand for all addresses."""


def host_port(host: str, port: int) -> str:
    """Return host:port, with brackets where the host is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(host: str) -> bool:
    """Return whether a host is an address, and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, and reached from nowhere else."""
    if not is_address(host):
        return host == LOCALHOST
    address = ipaddress.ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_unspecified(host: str) -> bool:
    """Return whether a host stands for all addresses, of one family or of both."""
    return not host or (is_address(host) and ipaddress.ip_address(host).is_unspecified)


def loopback_of(host: str) -> str:
    """Return the loopback host of the families that a host which stands for all addresses has."""
    return "127.0.0.1" if host == "0.0.0.0" else LOCALHOST  # noqa: S104 - it is what is narrowed


def local_host(host: str) -> str:
    """Return the host at which this machine reaches a program that listens on host."""
    return "127.0.0.1" if is_unspecified(host) else host


async def listen(host: str, port: int, variable: str) -> Sequence[socket.socket]:
    """Return listening sockets, one for each address that host stands for; raises CannotListen."""
    try:
        return await open_sockets(host, port)
    except OSError as error:
        raise CannotListen(variable, f"{port} on {host}" if host else port, error) from error


async def open_sockets(host: str, port: int) -> Sequence[socket.socket]:
    """Return listening sockets, one for each address that host stands for; raises OSError if one cannot be had.

    An address of a family that the machine does not have is left out while another address remains.
    """
    addresses: Iterable[tuple[int, tuple[Any, ...]]] = _TABLE.get(host, ())
    if not addresses:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys((family, name) for family, *_, name in found if family in _FAMILIES)
    opened: list[socket.socket] = []
    missing: list[OSError] = []
    with ExitStack() as stack:
        for family, (address, _, *scope) in addresses:
            try:
                one = socket.create_server((address, port, *scope), family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing.append(error)
                continue
            one.setblocking(False)
            opened.append(stack.enter_context(one))
            port = one.getsockname()[1]  # the same for all, also where any free one is asked for
        if not opened:
            raise missing[0]
        stack.pop_all()
    if missing:
        families = [_FAMILIES[one.family] for one in opened]
        log.info("this machine has addresses of one family only", listening_on=families, port=port)
    return opened
