"""The broker that bases connect to, and how."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Broker:
    """Address and credentials of a broker; ca switches TLS on, paths are of PEM files."""

    host: str
    port: int = 1883
    username: str = ""
    password: str = ""
    prefix: str = "koupleless"
    """First part of client ids."""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    insecure: bool = False
    """Take any certificate of the broker."""

    def __repr__(self) -> str:
        return f"Broker({self.host}:{self.port})"

    def client_id(self, identity: str) -> str:
        """Return the client id of a base. The broker ends the connection of another client that has the same."""
        return f"{self.prefix}@@@{identity}"


@cache
def tls(broker: Broker) -> ssl.SSLContext | None:
    """Return what all bases of the process share for TLS, None without it; raises OSError for unusable files."""
    if not broker.ca:
        return None
    context = ssl.create_default_context(cafile=broker.ca)
    if broker.certificate:
        context.load_cert_chain(broker.certificate, broker.key or None)
    if broker.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
