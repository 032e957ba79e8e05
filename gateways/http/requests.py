"""What bases ask of the gateway, understood or refused; no HTTP beyond status numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, payloads
from gateways.arklet.fields import Malformed, first_object
from gateways.arklet.names import InvalidName, parse_identity
from gateways.http.arklet_client import with_port
from gateways.polling.prober import Prober
from gateways.session.links import ControlPlane, Unavailable
from service.addresses import AddressPolicy, AddressRefused
from service.listening import host_port

BASELINE_TIMEOUT = 5.0
"""Seconds that a base waits at most for the answer to its baseline question."""
RETRY_AFTER: Mapping[str, str] = MappingProxyType({"Retry-After": "5"})


@dataclass(eq=False)
class RequestRefused(Exception):
    """A request is refused: HTTP status, reason for counting, text for people."""

    status: int
    reason: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Requests:
    """Carries out heartbeats and baseline questions. A refused one has changed nothing."""

    control_plane: ControlPlane
    prober: Prober
    policy: AddressPolicy
    env: str

    async def heartbeat(self, body: bytes) -> bytes:
        """Take a heartbeat. Raises RequestRefused."""
        try:
            data = first_object(body)
            report, port = payloads.heartbeat(data), payloads.port(data)
        except Malformed as error:
            raise RequestRefused(400, "malformed", f"heartbeat: {error}") from None
        base, address = self._identity(report), report.heartbeat.address
        address.CopyFrom(self._address(address.ip, port))
        elsewhere = self.prober.alive_elsewhere(base, address)
        if elsewhere is not None:
            text = f"base {base} is alive at {_shown(elsewhere)}; {_shown(address)} is taken once that one is silent "
            raise RequestRefused(409, "identity_in_use", f"{text}for 25 s")
        if not self.control_plane.report(report):
            raise RequestRefused(503, "no_control_plane", "no control plane replica is connected", RETRY_AFTER)
        if report.heartbeat.state == pb.BASE_STATE_DEACTIVATED:
            self.prober.left(base, address)
        else:
            self.prober.heartbeat(base, address)
        return b"SUCCESS"

    async def query_baseline(self, body: bytes) -> bytes:
        """Answer a baseline question. Raises RequestRefused."""
        try:
            query = payloads.baseline_query(first_object(body))
        except Malformed as error:
            raise RequestRefused(400, "malformed", f"queryBaseline: {error}") from None
        self._identity(query)
        try:
            async with asyncio.timeout(BASELINE_TIMEOUT):
                return commands.baseline(await self.control_plane.baseline(query))
        except TimeoutError:
            text = f"the control plane did not answer within {BASELINE_TIMEOUT:g} s"
            raise RequestRefused(503, "baseline_timeout", text, RETRY_AFTER) from None
        except Unavailable as error:
            raise RequestRefused(503, "no_control_plane", str(error), RETRY_AFTER) from None

    def _identity(self, report: pb.Report) -> str:
        try:
            return parse_identity(report.base_id, self.env)
        except InvalidName as error:
            raise RequestRefused(400, "invalid_identity", str(error)) from None

    def _address(self, ip: str, port: int) -> pb.Address:
        if port < 0:
            text = f"port: {port} says that the base found no free port and listens nowhere"
            raise RequestRefused(400, "address", text)
        address = with_port(pb.Address(ip=ip, port=port))
        try:
            address.ip = self.policy.check(ip, address.port)
        except AddressRefused as error:
            raise RequestRefused(400, "address", f"localIP and port: {error}") from None
        return address


def _shown(address: pb.Address) -> str:
    return host_port(address.ip, address.port)
