"""What bases ask for over HTTP: heartbeats are taken, questions for a baseline answered."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, payloads
from gateways.arklet.fields import first_object
from gateways.arklet.names import parse_identity
from gateways.http.arklet_client import with_port
from gateways.http.credentials import Caller
from gateways.http.places import Places
from gateways.polling.prober import LIVE, Prober
from gateways.session.links import Unavailable
from service.addresses import AddressPolicy
from service.listening import host_port
from service.refusals import RequestRefused

BASELINE_TIMEOUT = 5.0
"""Seconds that a base waits at most for the answer to its baseline question."""
RETRY_AFTER = {"Retry-After": "5"}


@dataclass(slots=True)
class Requests:
    """Carries out heartbeats and baseline questions. A refused one has changed nothing.

    Both raise Malformed, InvalidName, AddressRefused, Unavailable or RequestRefused.
    """

    report: Callable[[pb.Report], bool]
    baseline: Callable[[pb.Report], Awaitable[list[pb.ModuleRef]]]
    prober: Prober
    policy: AddressPolicy
    env: str
    check_peers: bool = False
    """Whether a base must call from the address that it names."""
    places: Places = field(default_factory=Places)

    async def heartbeat(self, body: bytes, caller: Caller) -> bytes:
        """Take a heartbeat."""
        data = first_object(body)
        report, port = payloads.heartbeat(data), payloads.port(data)
        report.heartbeat.peer = caller.peer
        base, address = parse_identity(report.base_id, self.env), report.heartbeat.address
        caller.check_identity(base)
        if port < 0:
            text = f"port: {port} says that the base found no free port and listens nowhere"
            raise RequestRefused(400, "address", text)
        address.port = port
        address.ip = self.policy.check(address.ip, with_port(address).port)
        if self.check_peers:
            caller.check_address(address.ip)
        elsewhere = self.prober.alive_elsewhere(base, address)
        if elsewhere is not None:
            old, new = (host_port(place.ip, place.port) for place in (elsewhere, address))
            text = f"base {base} is alive at {old}; {new} is taken once that one is silent for {LIVE:g} s"
            raise RequestRefused(409, "identity_in_use", text)
        self._check_place(base, address)
        if not self.report(report):
            raise Unavailable("no control plane replica is connected")
        if report.heartbeat.state == pb.BASE_STATE_DEACTIVATED:
            # The place stays its own until it is silent: anybody can say goodbye in its name.
            self.prober.leaving(base)
        else:
            self.places.take((address.ip, address.port), base, asyncio.get_running_loop().time())
            self.prober.heartbeat(base, address)
        return b"SUCCESS"

    def _check_place(self, base: str, address: pb.Address) -> None:
        """Raise RequestRefused if another base is alive at an address and port."""
        holder, at = self.places.holder((address.ip, address.port))
        if holder in ("", base):
            return
        beats = asyncio.get_running_loop().time() - at <= LIVE
        if beats or self.prober.alive_at(holder, address):
            text = (
                f"{host_port(address.ip, address.port)} is base {holder}'s; base {base} is taken there once that one "
            )
            raise RequestRefused(409, "address_in_use", f"{text}is silent for {LIVE:g} s, or at a port of its own")

    async def query_baseline(self, body: bytes, caller: Caller) -> bytes:
        """Answer a baseline question."""
        query = payloads.baseline_query(first_object(body))
        caller.check_identity(parse_identity(query.base_id, self.env))
        query.baseline_query.peer = caller.peer
        try:
            async with asyncio.timeout(BASELINE_TIMEOUT):
                return commands.baseline(await self.baseline(query))
        except TimeoutError:
            text = f"the control plane did not answer within {BASELINE_TIMEOUT:g} s"
            raise RequestRefused(503, "baseline_timeout", text, RETRY_AFTER) from None
