"""Addresses of bases over HTTP that leave out their port."""

from __future__ import annotations

from dataclasses import replace

from gateways.session.messages import Address

DEFAULT_PORT = 1238
"""Where arklet listens if it can: what an address over HTTP means that names no port."""


def with_port(address: Address) -> Address:
    """Return an address that names its port: heartbeats may leave it out, and so may Nodes of the original."""
    return address if address.port else replace(address, port=DEFAULT_PORT)
