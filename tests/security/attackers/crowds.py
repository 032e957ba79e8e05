"""Connections that strangers open and leave."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""What a client of HTTP/2 begins with, and an empty SETTINGS frame. Source: RFC 9113, 3.4."""


def open_from(stack: ExitStack, address: str, port: int, count: int, says: bytes = b"") -> list[socket.socket]:
    """Open so many connections, as many as are taken, from one address of this machine; the stack closes them."""
    held = []
    for _ in range(count):
        one = stack.enter_context(socket.socket())
        one.settimeout(1.0)
        # A program may listen on this port of other addresses.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, 0))
        try:
            one.connect(("127.0.0.1", port))
            one.sendall(says)
        except OSError:
            break
        held.append(one)
    return held


@contextmanager
def crowd(port: int, count: int, *, addresses: int = 12, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """Hold about so many idle connections of several addresses of this machine."""
    with ExitStack() as stack:
        found = (open_from(stack, f"127.0.0.{2 + last}", port, count // addresses, says) for last in range(addresses))
        yield [one for of_address in found for one in of_address]
