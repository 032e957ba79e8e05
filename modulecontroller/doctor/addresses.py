"""Whether HTTP_TUNNEL_ALLOWED_CIDRS lets the bases in, and nobody else."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

from controlplane.domain import contract
from gateways.http.arklet_client import DEFAULT_PORT
from gateways.http.settings import HttpGatewaySettings
from gateways.session.endpoints import InvalidEndpoint, parse
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, error, ok, skipped, some, warning
from modulecontroller.doctor.kube import NoAnswer, connect, subject
from service.addresses import AddressPolicy, AddressRefused

ABOUT = "addresses"
MOST = 5000
"""VNodes that are looked at."""


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield what the address policy refuses and should not, or the other way round."""
    settings = configuration.of(HttpGatewaySettings)
    if settings is None:
        yield skipped(ABOUT, configuration.why_not("http-gateway"))
        return
    for finding in _policy(settings, _own_addresses()):
        yield finding
    cluster = subject(configuration)
    if isinstance(cluster, str):
        yield skipped(ABOUT, f"bases that are known are not looked at: {cluster}")
        return
    labels = quote(f"{contract.COMPONENT}={contract.COMPONENT_VNODE},{contract.ENV}={settings.env}")
    try:
        async with connect(cluster) as api:
            answer = await api.ask(f"/api/v1/nodes?labelSelector={labels}&limit={MOST}")
    except NoAnswer as failed:
        yield skipped(ABOUT, f"bases that are known are not looked at: {failed}")
        return
    if answer.status != 200:
        yield skipped(ABOUT, f"bases that are known are not looked at: {answer.message}")
        return
    yield known(settings, answer.body.get("items") or [])


def _policy(settings: HttpGatewaySettings, own: list[str]) -> Iterator[Finding]:
    variable = "HTTP_TUNNEL_ALLOWED_CIDRS"
    policy = AddressPolicy(settings.allowed_cidrs)
    if not settings.allowed_cidrs:
        yield error(ABOUT, f"{variable} lists no network: every base is refused", "list the networks of the bases")
        return
    everything = [str(network) for network in settings.allowed_cidrs if network.prefixlen == 0]
    if everything and not settings.token.get_secret_value():
        words = f"{variable} has {', '.join(everything)} and HTTP_TUNNEL_TOKEN is not set: whoever reaches the port "
        words += "can make this gateway call any address"
        yield warning(ABOUT, words, "list the networks of the bases only, or set HTTP_TUNNEL_TOKEN")
    refused = [address for address in own if _refusal(policy, address, DEFAULT_PORT)]
    if own and len(refused) == len(own):
        words = (
            f"this machine itself is at {', '.join(own)}, which {variable} refuses; so would be bases of its network"
        )
        yield warning(ABOUT, words, f"add the network of the bases to {variable}, if they are in it")


def known(settings: HttpGatewaySettings, nodes: list[Any]) -> Finding:
    """Return which VNodes of the HTTP tunnel the policy refuses."""
    policy = AddressPolicy(settings.allowed_cidrs)
    looked, refusals = 0, {}
    for node in nodes:
        meta = node.get("metadata", {})
        annotations = meta.get("annotations") or {}
        if annotations.get(contract.ANNOTATION_TUNNEL, "http") != "http":
            continue
        try:
            ip, port = parse(str(annotations.get(contract.ANNOTATION_BASE_ADDRESS, "")))
        except InvalidEndpoint:
            continue
        looked += 1
        if cause := _refusal(policy, ip, port):
            refusals[str(meta.get("name"))] = cause
    if refusals:
        words = f"{len(refusals)} of {looked} bases that are known would be refused: {some(list(refusals))}; "
        words += next(iter(refusals.values()))
        return error(ABOUT, words, "add their networks to HTTP_TUNNEL_ALLOWED_CIDRS")
    networks = ",".join(map(str, settings.allowed_cidrs))
    return ok(ABOUT, f"{looked} bases are known over HTTP, all of them in {networks}")


def _refusal(policy: AddressPolicy, ip: str, port: int) -> str:
    try:
        policy.check(ip, port)
    except AddressRefused as refused:
        return str(refused)
    return ""


def _own_addresses() -> list[str]:
    """Return the addresses that this machine's name stands for, without loopback ones."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    addresses = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
    return [address for address in addresses if not address.startswith(("127.", "::1", "fe80:"))]
