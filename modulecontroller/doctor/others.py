"""Who else a start depends on: control planes, bases by their addresses, receivers of reports."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import grpc
from grpc_health.v1 import health_pb2
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.cluster import fields
from controlplane.cluster.api import NODES, Json
from controlplane.domain import contract
from controlplane.reports import hooks, trackerfile
from controlplane.reports.hooks import Destination
from controlplane.settings import ControlPlaneSettings
from gateways.http.arklet_client import DEFAULT_PORT
from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.session import endpoints
from grpcclient.access import ClientAccess, NoAccess
from mctl.auth.access import ServerAccess
from mctl.auth.choice import Given
from mctl.connection import connection
from mctl.errors import CommandError
from mctl.rpc.client import ToolingClient
from mctl.text import some
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.cluster import connect
from modulecontroller.doctor.findings import Finding, Skip, error, need, ok, skipped, warning
from modulecontroller.settings import SupervisorSettings
from service.addresses import AddressPolicy, AddressRefused
from service.listening import cause_of, host_port, local_host

HEALTH_WITHIN = 5.0
"""Seconds for the health of one replica."""
LIST_WITHIN = 10.0
"""Seconds for the list of VNodes."""
CONNECT_WITHIN = 5.0
"""Seconds for a connection to a receiver of reports."""


async def control_planes(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether a gateway that is started by itself finds a control plane at each endpoint of CONTROL_PLANE."""
    if configuration.supervised:
        raise Skip("module-controller starts its own, on loopback")
    wanted = _endpoints(configuration)
    if not wanted:
        raise Skip("no gateway is looked at")
    for endpoint, access in wanted.items():
        found = await endpoints.resolve(endpoint)
        if not found:
            fix = "name the headless Service of the control plane"
            yield error(f"CONTROL_PLANE={endpoint}: the name does not resolve", fix)
        for address in found:
            named = f"CONTROL_PLANE={endpoint}: {address}"
            if cause := await _not_serving(address, access):
                fix = "start the control plane, or correct CONTROL_PLANE; look at NetworkPolicies for port 50051"
                yield error(f"{named} does not serve: {cause}", fix)
            else:
                yield ok(f"{named} serves")


def _endpoints(configuration: Configuration) -> Mapping[str, ClientAccess]:
    """Return where the gateways look for a control plane, and how they connect."""
    gateways = (configuration.of(HttpGatewaySettings), configuration.of(MqttGatewaySettings))
    return {name: each.access for each in gateways if each is not None for name in each.control_plane}


async def _not_serving(address: str, access: ClientAccess) -> str:
    """Return why a replica does not serve, empty when it does."""
    try:
        metadata = await asyncio.to_thread(access.metadata, address)
        opened = access.channel(address, ())
    except NoAccess as refused:
        return str(refused)
    async with opened as channel:
        check_health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check_health(health_pb2.HealthCheckRequest(), timeout=HEALTH_WITHIN, metadata=metadata)
        except grpc.aio.AioRpcError as failed:
            return failed.details() or failed.code().name
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if serving else "it says that it is not serving"


async def vnodes(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which VNodes of a control plane that runs do not answer commands, and what keeps these from them."""
    own = configuration.of(SupervisorSettings) or configuration.of(ControlPlaneSettings)
    if own is not None:
        servers = [host_port(local_host(own.grpc_host), own.grpc_port)]
    else:
        servers = [address for each in _endpoints(configuration) for address in await endpoints.resolve(each)]
    failure = "no program is looked at that has or finds a control plane"
    for server in servers:
        try:
            found = await _vnodes(server)
        except (CommandError, OSError) as failed:
            failure = f"no control plane answers at {server}: {str(failed) or type(failed).__name__}"
            continue
        silent = [f"{vnode.name}: {vnode.message}" for vnode in found if vnode.message]
        if silent:
            fix = "let the gateways reach the address and port that each base reports (firewall, NetworkPolicy, "
            fix += "a container's own address), or have the base report another with -Dkoupleless.arklet.http.port"
            yield warning(f"{len(silent)} of {len(found)} do not answer: {some(silent)}", fix)
        else:
            yield ok(f"all {len(found)} answer" if found else "there are none yet")
        return
    raise Skip(failure)


async def _vnodes(server: str) -> list[pb.VNode]:
    """Return what mctl would list, asked as the same user; raises CommandError, OSError when nobody is there."""
    host, _, port = server.rpartition(":")
    async with asyncio.timeout(CONNECT_WITHIN):
        _, writer = await asyncio.open_connection(host.removeprefix("[").removesuffix("]"), int(port))
    writer.close()

    def ask() -> list[pb.VNode]:
        access = ServerAccess(connection(Given(server=server)), attended=False, within=CONNECT_WITHIN)
        with ToolingClient(access, LIST_WITHIN) as client:
            return list(client.vnodes())

    return await asyncio.to_thread(ask)


async def addresses(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether HTTP_TUNNEL_ALLOWED_CIDRS lets the bases in, and nobody else."""
    gateway = need(configuration, HttpGatewaySettings)
    for finding in policy(gateway, _own_addresses()):
        yield finding
    labels = f"{contract.COMPONENT}={contract.COMPONENT_VNODE},{contract.ENV}={gateway.env}"
    try:
        async with connect(configuration) as (_, _, api):
            yield known(gateway, (await api.list(NODES, label_selector=labels)).items)
    except Skip as skip:
        yield skipped(f"bases that are known are not looked at: {skip}")


def policy(gateway: HttpGatewaySettings, own: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the networks by themselves; own are the addresses of this machine."""
    variable = "HTTP_TUNNEL_ALLOWED_CIDRS"
    if not gateway.allowed_cidrs:
        yield error(f"{variable} lists no network: every base is refused", "list the networks of the bases")
        return
    everything = [str(network) for network in gateway.allowed_cidrs if network.prefixlen == 0]
    if everything and not (gateway.token.get_secret_value() or gateway.token_keys.get_secret_value()):
        words = f"{variable} has {', '.join(everything)} and no token is asked for: whoever reaches the port can make "
        words += "this gateway call any address"
        yield warning(words, "list the networks of the bases only, or set HTTP_TUNNEL_TOKEN_KEYS or HTTP_TUNNEL_TOKEN")
    if own and all(_refusal(gateway, address, DEFAULT_PORT) for address in own):
        words = f"this machine is at {', '.join(own)}, which {variable} refuses; so would be bases of its network"
        yield warning(words, f"add the network of the bases to {variable}, if they are in it")


def known(gateway: HttpGatewaySettings, nodes: Sequence[Json]) -> Finding:
    """Return which VNodes of the HTTP tunnel the policy refuses."""
    refusals: dict[str, str] = {}
    for node in nodes:
        annotations = fields.mapping(node, "metadata", "annotations")
        if annotations.get(contract.ANNOTATION_TUNNEL, "http") == "http":
            with contextlib.suppress(ValueError):
                ip, port = endpoints.parse(fields.text(annotations, contract.ANNOTATION_BASE_ADDRESS))
                refusals[fields.text(fields.mapping(node, "metadata"), "name")] = _refusal(gateway, ip, port)
    refused = [name for name, cause in refusals.items() if cause]
    if refused:
        words = f"{len(refused)} of {len(refusals)} bases that are known would be refused: {some(refused)}; "
        return error(words + refusals[refused[0]], "add their networks to HTTP_TUNNEL_ALLOWED_CIDRS")
    networks = ",".join(map(str, gateway.allowed_cidrs))
    return ok(f"{len(refusals)} bases are known over HTTP, all of them in {networks}")


def _refusal(gateway: HttpGatewaySettings, ip: str, port: int) -> str:
    try:
        AddressPolicy(gateway.allowed_cidrs, gateway.allowed_ports).check(ip, port)
    except AddressRefused as refused:
        return str(refused)
    return ""


def _own_addresses() -> list[str]:
    """Return the addresses that this machine's name stands for, without loopback ones."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    unique = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
    return [address for address in unique if not address.startswith(("127.", "::1", "fe80:"))]


async def reports(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which hooks and links can be reached; nothing is sent. Those that cannot be used are wrong settings."""
    settings = need(configuration, ControlPlaneSettings)
    named = hooks.destinations("hook", hooks.urls(settings.report_hooks.get_secret_value()))
    if settings.tracker_file is not None:
        with contextlib.suppress(trackerfile.WrongTrackerFile):
            named += trackerfile.load(settings.tracker_file).links
    targets = [target for target in named if not target.problem]
    if not targets:
        raise Skip("no hook and no link is called by http or https")
    for finding in await asyncio.gather(*map(_reached, targets)):
        yield finding


async def _reached(target: Destination) -> Finding:
    parts = urlsplit(target.url)
    scheme, host = parts.scheme, parts.hostname or ""
    if scheme in getproxies() and not proxy_bypass(host):
        return skipped(f"{target.name} is called through a proxy, and not tried")
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            _, writer = await asyncio.open_connection(host, parts.port or (443 if scheme == "https" else 80))
    except OSError as failed:
        cause = f"no answer within {CONNECT_WITHIN:g} s" if isinstance(failed, TimeoutError) else cause_of(failed)
        fix = "correct the URL, or look at DNS, firewalls and NetworkPolicies; all else works without it"
        return warning(f"{target.name} cannot be reached: {cause}", fix)
    writer.close()
    return ok(f"{target.name} can be reached")
