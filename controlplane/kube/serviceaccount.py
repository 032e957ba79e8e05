"""The service account of the Pod that we run in, as the official client reads it.

Blocks: not for the event loop's thread. ``kubernetes`` is imported when it is needed,
which costs 11 MB and 0.1 s; a kubeconfig does without, and so does the embedded cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.kube.access import CannotConnect
from controlplane.kube.tls import read


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Where the API server is, its CA (PEM), and the token of the service account."""

    host: str
    ca: bytes
    token: str

    def __repr__(self) -> str:
        return f"ServiceAccount({self.host})"


def load() -> ServiceAccount:
    """Return the service account as its files are now; raises CannotConnect."""
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import ConfigException, load_incluster_config

    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration, try_refresh_token=False)
    except (ConfigException, OSError, ValueError) as error:
        raise CannotConnect(str(error)) from error
    token: str = configuration.api_key["BearerToken"]
    return ServiceAccount(
        host=configuration.host,
        ca=read(configuration.ssl_ca_cert, "certificate-authority"),
        token=token.partition(" ")[2],
    )
