"""Whether a gateway that is started by itself finds a control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2

from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.session import endpoints
from modulecontroller.configuration import SUPERVISOR, Configuration
from modulecontroller.doctor.findings import Finding, error, ok, skipped

ABOUT = "control plane"
ANSWER_TIME = 5.0
"""Seconds for one replica."""


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether each endpoint of CONTROL_PLANE answers."""
    if any(program.name == SUPERVISOR for program in configuration.programs):
        yield skipped(ABOUT, "module-controller starts its own, on loopback")
        return
    found = [configuration.of(HttpGatewaySettings), configuration.of(MqttGatewaySettings)]
    told = dict.fromkeys(name for settings in found if settings is not None for name in settings.control_plane)
    if not told:
        yield skipped(ABOUT, "no gateway is looked at")
    for endpoint in told:
        async for finding in _endpoint(endpoint):
            yield finding


async def _endpoint(endpoint: str) -> AsyncIterator[Finding]:
    named = f"CONTROL_PLANE={endpoint}"
    addresses = await endpoints.resolve(endpoint)
    if not addresses:
        yield error(ABOUT, f"{named}: the name does not resolve", "name the headless Service of the control plane")
    for address in addresses:
        cause = await _ask(address)
        if cause:
            fix = "start the control plane, or correct CONTROL_PLANE; look at NetworkPolicies for port 50051"
            yield error(ABOUT, f"{named}: {address} does not serve: {cause}", fix)
        else:
            yield ok(ABOUT, f"{named}: {address} serves")


async def _ask(address: str) -> str:
    """Return why a replica does not serve, empty when it does."""
    async with grpc.aio.insecure_channel(address) as channel:
        check_health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer: health_pb2.HealthCheckResponse = await check_health(
                health_pb2.HealthCheckRequest(), timeout=ANSWER_TIME
            )
        except grpc.aio.AioRpcError as failed:
            return failed.details() or failed.code().name
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if answer.status == serving else "it says that it is not serving"
