"""Whether the VNodes of a control plane that runs answer, and if not, what keeps commands from them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc as rpc

from controlplane.settings import ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.session import endpoints
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, ok, skipped, some, warning
from modulecontroller.settings import SupervisorSettings
from service.listening import host_port, local_host

ABOUT = "VNodes"
ANSWER_TIME = 10.0
"""Seconds for one page."""
PAGE = 1000
FIX = (
    "let the gateways reach the address and port that each base tells (firewall, NetworkPolicy, a container's own "
    "address), or have the base tell another with -Dkoupleless.arklet.http.port"
)


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which VNodes do not answer commands, as the control plane knows it."""
    servers = await _servers(configuration)
    if not servers:
        yield skipped(ABOUT, "no program is looked at that has or finds a control plane")
        return
    failure = ""
    for server in servers:
        try:
            yield _finding(await _vnodes(server))
        except grpc.aio.AioRpcError as failed:
            failure = f"no control plane answers at {server}: {failed.details() or failed.code().name}"
        else:
            return
    yield skipped(ABOUT, failure)


async def _servers(configuration: Configuration) -> list[str]:
    """Return host:port of the control planes that the programs have or find."""
    own = configuration.of(SupervisorSettings) or configuration.of(ControlPlaneSettings)
    if own is not None:
        return [host_port(local_host(own.grpc_host), own.grpc_port)]
    gateways = [configuration.of(HttpGatewaySettings), configuration.of(MqttGatewaySettings)]
    told = dict.fromkeys(name for settings in gateways if settings is not None for name in settings.control_plane)
    return [address for endpoint in told for address in await endpoints.resolve(endpoint)]


async def _vnodes(server: str) -> list[pb.VNode]:
    found: list[pb.VNode] = []
    async with grpc.aio.insecure_channel(server) as channel:
        stub = rpc.ModuleControllerServiceStub(channel)
        token = ""
        while True:
            request = pb.ListVNodesRequest(page_size=PAGE, page_token=token)
            page = await stub.ListVNodes(request, timeout=ANSWER_TIME)
            found += page.items
            token = page.next_page_token
            if not token:
                return found


def _finding(vnodes: list[pb.VNode]) -> Finding:
    silent = [f"{vnode.name}: {vnode.message}" for vnode in vnodes if vnode.message]
    if silent:
        return warning(ABOUT, f"{len(silent)} of {len(vnodes)} do not answer: {some(silent)}", FIX)
    return ok(ABOUT, f"all {len(vnodes)} answer" if vnodes else "there are none yet")
