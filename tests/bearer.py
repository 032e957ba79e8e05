"""Calls of tests that show a token of the machine whose state is in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from service import localtokens


class _Details(NamedTuple):
    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Shows a token with each call of a channel."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    def _call(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), self._header]
        shown = _Details(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )
        return go_on(shown, request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _call  # type: ignore[assignment]


def token_of(state: Path, role: str = "admin") -> str:
    """Return the token of a role; a control plane has started once."""
    return localtokens.of_role(localtokens.read(state / "koupleless-module-controller" / "tokens.csv"), role)


def channel(server: str, state: Path, role: str = "admin") -> grpc.Channel:
    """Return a channel whose calls show the token of a role."""
    return showing(server, token_of(state, role))


def showing(server: str, token: str) -> grpc.Channel:
    """Return a channel whose calls show a token."""
    return grpc.intercept_channel(grpc.insecure_channel(server), Bearer(token))
