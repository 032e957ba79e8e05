"""A TCP relay on loopback between a program and a server, which can be cut or frozen."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from typing import Self

CHUNK = 1 << 16
LOOK = 0.2


class Relay:
    """Relays connections to a port of 127.0.0.1, on a port of its own; a context manager.

    cut ends all connections, and new ones at once, as a network that refuses does. A frozen connection stays open and
    forwards nothing, as with a proxy that hangs; half of it may be closed already.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LOOK)
        self._cut = threading.Event()
        self._frozen = threading.Event()
        self._frozen_ends: set[socket.socket] = set()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept, name=f"relay-{self.port}", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def cut(self) -> None:
        """End all connections and accept no new ones."""
        self._cut.set()
        self._drop_all()

    def mend(self) -> None:
        """Forward new connections again."""
        self._cut.clear()
        self._frozen.clear()

    def freeze(self, *, new_ones: bool = True) -> None:
        """Forward nothing on open connections until they end, nor on new ones until mended."""
        with self._lock:
            self._frozen_ends |= self._open
        if new_ones:
            self._frozen.set()

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._acceptor.join()
        self._listener.close()
        self._drop_all()

    def _drop_all(self) -> None:
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(
                target=self._serve, args=(client,), name=f"relay-{self.port}-connection", daemon=True
            ).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self._cut.is_set():
                return
            with socket.create_connection(("127.0.0.1", self._target), timeout=5.0) as server:
                server.settimeout(None)
                with self._kept(client, server):
                    if self._frozen.is_set():
                        with self._lock:
                            self._frozen_ends |= {client, server}
                    self._pump(client, server)

    @contextlib.contextmanager
    def _kept(self, *ends: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open |= set(ends)
        try:
            yield
        finally:
            with self._lock:
                self._open -= set(ends)
                self._frozen_ends -= set(ends)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while not self._ended.is_set() and not self._cut.is_set():
            if client in self._frozen_ends:
                self._ended.wait(LOOK)
                continue
            ready, _, _ = select.select([client, server], [], [], LOOK)
            for end in ready:
                data = end.recv(CHUNK)
                if not data:
                    return
                if client not in self._frozen_ends:
                    other[end].sendall(data)
