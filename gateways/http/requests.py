"""What bases ask of the gateway, understood or refused; no HTTP beyond status numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

from gateways.arklet import commands, payloads
from gateways.arklet.facts import BaselineModule, BaseState, Heartbeat, Metadata
from gateways.arklet.names import InvalidName, parse_identity
from gateways.http.addresses import with_port
from gateways.session.messages import Address, Fact
from gateways.session.session import Unavailable
from service.addresses import AddressPolicy, AddressRefused

BASELINE_TIMEOUT = 5.0
"""Seconds that a base waits at most for the answer to its baseline question."""
RETRY_AFTER: Mapping[str, str] = MappingProxyType({"Retry-After": "5"})


@dataclass(eq=False)
class Refusal(Exception):
    """A request is refused: HTTP status, reason for counting, text for people."""

    status: int
    reason: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


class ControlPlane(Protocol):
    """What the session offers to bases."""

    def report(self, base: str, fact: Fact) -> bool:
        """Queue a fact; False when no replica can be told."""

    async def baseline(self, metadata: Metadata) -> tuple[BaselineModule, ...]:
        """Ask which modules a base should start with. Raises Unavailable."""


class Whereabouts(Protocol):
    """What the prober knows of living bases."""

    def beat(self, base: str, address: Address) -> None:
        """Take note of a heartbeat."""

    def left(self, base: str, address: Address) -> None:
        """Take note that a base said that it goes away."""

    def alive_elsewhere(self, base: str, address: Address) -> Address | None:
        """Return where the base is alive if that is another address."""


class Requests:
    """Carries out heartbeats and baseline questions. A refused one has changed nothing."""

    def __init__(self, control_plane: ControlPlane, whereabouts: Whereabouts, policy: AddressPolicy, env: str) -> None:
        self._control_plane = control_plane
        self._whereabouts = whereabouts
        self._policy = policy
        self._env = env

    async def heartbeat(self, body: bytes) -> bytes:
        """Take a heartbeat. Raises Refusal."""
        try:
            beat = payloads.heartbeat(body)
        except payloads.Malformed as error:
            raise Refusal(400, "malformed", f"heartbeat: {error}") from None
        identity = self._identity(beat.metadata)
        beat, address = self._addressed(beat)
        elsewhere = self._whereabouts.alive_elsewhere(identity, address)
        if elsewhere is not None:
            text = f"base {identity} is alive at {elsewhere}; {address} is taken once that one is silent for 25 s"
            raise Refusal(409, "identity_in_use", text)
        if not self._control_plane.report(identity, beat):
            raise Refusal(503, "no_control_plane", "no control plane replica is connected", RETRY_AFTER)
        if beat.state is BaseState.DEACTIVATED:
            self._whereabouts.left(identity, address)
        else:
            self._whereabouts.beat(identity, address)
        return b"SUCCESS"

    async def query_baseline(self, body: bytes) -> bytes:
        """Answer a baseline question. Raises Refusal."""
        try:
            metadata = payloads.metadata(body)
        except payloads.Malformed as error:
            raise Refusal(400, "malformed", f"queryBaseline: {error}") from None
        self._identity(metadata)
        try:
            async with asyncio.timeout(BASELINE_TIMEOUT):
                return commands.baseline(await self._control_plane.baseline(metadata))
        except TimeoutError:
            text = f"the control plane did not answer within {BASELINE_TIMEOUT:g} s"
            raise Refusal(503, "baseline_timeout", text, RETRY_AFTER) from None
        except Unavailable as error:
            raise Refusal(503, "no_control_plane", str(error), RETRY_AFTER) from None

    def _identity(self, metadata: Metadata) -> str:
        try:
            return parse_identity(metadata.identity, self._env)
        except InvalidName as error:
            raise Refusal(400, "invalid_identity", str(error)) from None

    def _addressed(self, beat: Heartbeat) -> tuple[Heartbeat, Address]:
        if beat.port < 0:
            text = f"port: {beat.port} says that the base found no free port and listens nowhere"
            raise Refusal(400, "address", text)
        told = with_port(Address(beat.ip, beat.port))
        try:
            address = replace(told, ip=self._policy.check(told.ip, told.port))
        except AddressRefused as error:
            raise Refusal(400, "address", f"localIP and port: {error}") from None
        return replace(beat, ip=address.ip, port=address.port), address
