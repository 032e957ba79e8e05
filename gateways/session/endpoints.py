"""Endpoints of the control plane: parsing host:port, and resolving names to all their addresses."""

import asyncio
import socket

from service.listening import host_port

RESOLVE_TIMEOUT = 5.0
"""Seconds that one name may take."""
_SHOWN = 300


def parse(text: str) -> tuple[str, int]:
    """Return host and port of host:port or [ipv6]:port. Raises ValueError, which says what is expected."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text[:_SHOWN]!r} is not host:port, for example 127.0.0.1:50051")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text[:_SHOWN]!r}: write an IPv6 address in brackets, for example [::1]:50051")
    return host, int(port)


def parse_list(text: str) -> tuple[str, ...]:
    """Return the endpoints of a comma separated list, as they are written. Raises ValueError."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in parts:
        parse(part)
    if not parts:
        raise ValueError("no endpoint; give host:port, for example 127.0.0.1:50051")
    return parts


async def resolve(endpoint: str) -> tuple[str, ...]:
    """Return every address that the endpoint stands for now; none when its name does not resolve."""
    host, port = parse(endpoint)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return ()
    return tuple(dict.fromkeys(host_port(str(address[0]), port) for *_, address in found))
