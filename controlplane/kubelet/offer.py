"""Whether the kubelet API can be offered where nobody said so: its Service is there, and our rights are."""

import asyncio

from controlplane.app.ports import ClusterError, Rejected
from controlplane.cluster.api import SECRETS, SERVICES, ApiServer
from controlplane.cluster.reading import service
from controlplane.domain.contract import KUBELET_SERVICE
from controlplane.domain.endpoint import endpoint_of
from controlplane.domain.facts import Address
from controlplane.kubelet.settings import OTHERWISE, TLS_SECRET, KubeletSettings
from service.tls import WrongCertificates

FIX = "kubectl apply -k deploy/kubelet, which is for the namespace koupleless-system, and start again"
WITHIN = 5.0
"""Seconds for the API server's answers."""


async def why_not(api: ApiServer, settings: KubeletSettings, namespace: str, env: str) -> str:
    """Return in words why it cannot be offered; empty where it can, or where that cannot be found out.

    What is not known must not take its address from Nodes.
    """
    try:
        settings.kubelet_client_ca.read(OTHERWISE)
        async with asyncio.timeout(WITHIN):
            return await _missing(api, settings, namespace, env)
    except WrongCertificates as error:
        return str(error)
    except (ClusterError, TimeoutError):
        return ""


async def _missing(api: ApiServer, settings: KubeletSettings, namespace: str, env: str) -> str:
    try:
        listed = await api.list(SERVICES, namespace=namespace, label_selector=f"{KUBELET_SERVICE}=true")
    except Rejected as error:
        return f"Services of namespace {namespace} cannot be listed: {error}"
    found = endpoint_of(tuple(map(service, listed.items)), settings.kubelet_proxy_port, env)
    if not isinstance(found, Address):
        return found
    if settings.kubelet_files is not None:
        return ""
    try:
        await api.get(SECRETS, TLS_SECRET, namespace)
    except Rejected as error:
        return f"Secret {namespace}/{TLS_SECRET} cannot be read: {error}"
    return ""
