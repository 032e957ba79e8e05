"""What is no request, or a bad one."""

import socket
from collections.abc import Sequence

BAD = (
    b"\x00\x01\x02 rubbish\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(500)) + b"\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /log HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /log HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    b"POST /log HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /log HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx",
    b"GET /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"DELETE /livez HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"GET http://other/metrics HTTP/9.9\r\n\r\n",
)


def send(ports: Sequence[int], turns: int) -> None:
    """Send every bad request to one port after another, so many times; every other time the answer is not read."""
    for turn in range(turns):
        for bad in BAD:
            with socket.create_connection(("127.0.0.1", ports[turn % len(ports)]), timeout=5.0) as one:
                one.sendall(bad)
                if turn % 2:
                    # A reset in the middle of the answer.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
