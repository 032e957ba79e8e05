"""Stands for kube-proxy and kubectl port-forward: one address that stays, while the Pods behind it change."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Sequence

CONNECT_TIMEOUT = 2.0
CHUNK = 65536

Targets = Callable[[], Sequence[int]]


class Forwarder(socketserver.ThreadingTCPServer):
    """Forwards connections to a port of 127.0.0.1 to one of the ports that targets returns at that moment.

    Without a target a connection is closed at once. Needs close.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, targets: Targets) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.targets = targets
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, name="forwarder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Connection(socketserver.BaseRequestHandler):
    server: Forwarder
    request: socket.socket

    def handle(self) -> None:
        for port in self.server.targets():
            with contextlib.suppress(OSError):
                inside = socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT)
                break
        else:
            return
        with inside:
            inside.settimeout(None)
            back = threading.Thread(target=_pump, args=(inside, self.request), daemon=True)
            back.start()
            _pump(self.request, inside)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
