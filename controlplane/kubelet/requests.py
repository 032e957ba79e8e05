"""Requests for logs and streams: what the API server is asked in their place. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime

_FLAGS = ("follow", "previous", "timestamps")
_VALUES = ("tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream")
_STREAMS = {"input": "stdin", "output": "stdout", "error": "stderr", "tty": "tty"}
"""What kubelets call the streams of a command, and what the API server calls them."""
_HANDSHAKE = ("upgrade", "x-stream-protocol-version")
"""Headers that say which protocol is wanted, or chosen; those of WebSockets begin with sec-websocket-."""


def log_options(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what of a log is wanted, as the API server is asked for it, which refuses values that cannot be.

    Unknown and empty options are ignored, of repeated ones the first counts.
    """
    given = {name: value.encode(errors="replace").decode() for name, value in reversed(list(query))}
    # All streams is what every version of Kubernetes gives, older ones without knowing the option.
    values = {name: given[name] for name in _VALUES if given.get(name, "") not in ("", "All")}
    return values | {name: "true" for name in _FLAGS if given.get(name, "false").lower() not in ("false", "0")}


def explanation(text: str, options: Mapping[str, str], now: datetime) -> str:
    """Return the one line that is in place of a log, with the time if it is wanted, within the bytes that are."""
    stamp = f"{now.isoformat().replace('+00:00', 'Z')} " if "timestamps" in options else ""
    line = f"{stamp}[module-controller] {text}\n"
    limit = options.get("limitBytes", "")
    # The API server refuses its callers what is no number; others get the whole line.
    return line.encode()[: int(limit)].decode(errors="ignore") if limit.isascii() and limit.isdigit() else line


def stream_options(kind: str, query: Iterable[tuple[str, str]], container: str) -> list[tuple[str, str]]:
    """Return the query for a stream of exec, attach or portforward, from that of a kubelet.

    Sources: pkg/registry/core/pod/strategy.go (streamParams) of Kubernetes; PodExecOptions, PodAttachOptions and
    PodPortForwardOptions of its API.
    """
    given = [(name, value.encode(errors="replace").decode()) for name, value in query]
    if kind == "portforward":
        return [("ports", port) for name, value in given if name == "port" for port in value.split(",")]
    command = [("command", value) for name, value in given if name == "command" and kind == "exec"]
    streams = [(_STREAMS[name], "true") for name, value in given if name in _STREAMS and value == "1"]
    return [("container", container), *streams, *command]


def handshake(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers by which two ends agree on the protocol after an upgrade; none where none is wanted."""
    found = [(name, value) for name, value in headers if _agrees(name.lower())]
    if not any(name.lower() == "upgrade" for name, _ in found):
        return []
    return [("Connection", "Upgrade"), *found]


def _agrees(name: str) -> bool:
    return name in _HANDSHAKE or name.startswith("sec-websocket-")
