"""A kubelet of the node on which bases run: it serves the logs of containers to the API server alone."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Log:
    """The lines of one container."""

    lines: list[str] = field(default_factory=list)


class NodeKubelet:
    """Serves GET /containerLogs/NAMESPACE/POD/CONTAINER; a context manager. port is where it listens."""

    def __init__(self, certificate: tuple[Path, Path], clients_ca: Path) -> None:
        self.logs: dict[str, Log] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.following = 0
        self.changed = threading.Condition()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        tls.load_verify_locations(clients_ca)
        tls.verify_mode = ssl.CERT_REQUIRED
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Handler(self, *given))
        self._server.daemon_threads = True
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, name="node kubelet")
        self.stopping = False

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def say(self, container: str, *lines: str) -> None:
        """Write lines to the log of namespace/pod/container."""
        with self.changed:
            self.logs.setdefault(container, Log()).lines.extend(lines)
            self.changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, node: NodeKubelet, *given: object) -> None:
        self._node = node
        super().__init__(*given)  # type: ignore[arg-type]  # what the server gives

    def do_GET(self) -> None:
        node, url = self._node, urlsplit(self.path)
        container, query = url.path.removeprefix("/containerLogs/"), dict(parse_qsl(url.query))
        node.asked.append((container, query))
        log = node.logs.get(container)
        if log is None or query.get("previous") == "true":
            text = f"previous terminated container {container!r} not found".encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            for line in self._wanted(log, query):
                self._chunk(line)
            self._chunk(b"")

    def _wanted(self, log: Log, query: dict[str, str]) -> Iterator[bytes]:
        stamp = "2026-01-31T12:00:00Z " if query.get("timestamps") == "true" else ""
        tail = int(query.get("tailLines", len(log.lines)))
        left = int(query.get("limitBytes", 1 << 40))
        for line in self._lines(log, tail, follow=query.get("follow") == "true"):
            data = f"{stamp}{line}\n".encode()[:left]
            left -= len(data)
            if not data:
                return
            yield data

    def _lines(self, log: Log, tail: int, *, follow: bool) -> Iterator[str]:
        node, at = self._node, len(log.lines) - tail
        while at < len(log.lines):
            yield log.lines[at]
            at += 1
        if not follow:
            return
        node.following += 1
        try:
            while not node.stopping:
                with node.changed:
                    node.changed.wait(0.2)
                if at < len(log.lines):
                    yield log.lines[at]
                    at += 1
                elif self._reader_is_gone():
                    return
        finally:
            node.following -= 1

    def _reader_is_gone(self) -> bool:
        self.connection.settimeout(0.01)
        try:
            return not self.connection.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(None)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""
