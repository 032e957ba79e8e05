"""Sockets to the API server, of which the kernel finds out by itself when the peer's machine is gone."""

import asyncio
import socket

PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
"""Seconds of silence until the kernel asks whether the peer is there, between questions, and how often it asks."""


def new_socket(family: int, kind: int, protocol: int) -> socket.socket:
    """Return a socket that is not connected."""
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES.items():
        if hasattr(socket, option):  # macOS has other names
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


async def connect(family: int, address: tuple[str, int]) -> socket.socket:
    """Return a socket that is connected to an IP address and port; raises OSError."""
    made = new_socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
