"""A simulated base: its modules and its tunnels, started and stopped as one."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter, deque
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog

from gateways.arklet.fields import Json
from simulatedbase.arklet import Arklet
from simulatedbase.heartbeat import DEACTIVATED, Heartbeat
from simulatedbase.mqtt.tunnel import MqttTunnel
from simulatedbase.profile import Faults, Profile, Tunnel
from simulatedbase.runtime import Biz
from simulatedbase.server import Server

FIRST_PORT, LAST_PORT = 1238, 1337

_QUESTIONS = frozenset({"queryAllBiz", "health"})
"""Polled all the time: not worth a log line."""

log = structlog.get_logger(__name__)


class NoFreePort(OSError):
    """No port could be bound; the message says which were tried."""


@dataclass(frozen=True, slots=True)
class Received:
    """A command as it came in. at is the process's monotonic time in seconds."""

    verb: str
    body: Json | None
    at: float


@dataclass(frozen=True, slots=True)
class Moment:
    """What was inside from a moment on, until the next one. at is the process's monotonic time in seconds.

    modules is state by name:version. number counts from 1: what is missing was
    forgotten. running tells whether the base lived; note is a word on what happened.
    """

    number: int
    at: float
    running: bool
    modules: dict[str, str]
    note: str


class SimulatedBase:
    """One base. Many can live in one process; none blocks another.

    faults may be changed at any time. commands holds the last ones received,
    history the last changes of what is inside, and counts the number of each
    command ever received, all over restarts.
    """

    def __init__(self, profile: Profile, faults: Faults | None = None) -> None:
        self.profile = profile
        self.faults = faults or Faults()
        self.commands: deque[Received] = deque(maxlen=profile.commands_kept)
        self.counts: Counter[str] = Counter()
        self.history: deque[Moment] = deque(maxlen=profile.history_kept)
        self._moments = 0
        self._port = profile.port
        self._life = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._arklet: Arklet | None = None
        self._server: Server | None = None
        self._mqtt: MqttTunnel | None = None
        self._heartbeat: Heartbeat | None = None
        self._beating: asyncio.Task[None] | None = None
        self._log = log.bind(base=profile.identity)

    @property
    def identity(self) -> str:
        """Identity of the base."""
        return self.profile.identity

    @property
    def port(self) -> int:
        """Port of the command server; 0 before the first start unless one was asked for."""
        return self._port or 0

    @property
    def running(self) -> bool:
        """The base takes commands."""
        return self._arklet is not None

    @property
    def connected(self) -> bool:
        """The base has a connection to its broker."""
        return self._mqtt is not None and self._mqtt.connected

    @property
    def beating_over_mqtt(self) -> bool:
        """Heartbeats over MQTT did not end."""
        return self._mqtt is not None and self._mqtt.beating

    def modules(self) -> list[Biz]:
        """Return the modules inside the base; none when it does not run."""
        return self._arklet.modules() if self._arklet is not None else []

    async def start(self) -> None:
        """Start without modules; raises NoFreePort, BrokerUnavailable, or ValueError for a profile that cannot be.

        The first heartbeat over HTTP goes out at once, which can be before the server listens.
        """
        async with self._life:
            if not self.running:
                await self._start()

    async def stop(self) -> None:
        """Leave in silence, as a Java base does: commands under way are cut, modules are lost."""
        async with self._life:
            await self._stop()

    async def deactivate(self) -> None:
        """Say DEACTIVATED to the controller, then stop."""
        async with self._life:
            if self._heartbeat is not None:
                await self._heartbeat.beat(DEACTIVATED)
            if self._mqtt is not None:
                await self._mqtt.deactivate()
            await self._stop()

    def cut(self, seconds: float) -> None:
        """Lose the connection to the broker for so long; without one nothing happens."""
        if self._mqtt is not None:
            self._mqtt.cut(seconds)

    async def restart(self, port: int | None = None) -> None:
        """Stop and start under the same identity, without modules, on the same port unless another is given."""
        async with self._life:
            await self._stop()
            if port is not None:
                self._port = port
            await self._start()

    async def _start(self) -> None:
        began = time.monotonic()
        arklet = Arklet(
            self.profile,
            self.faults,
            self._tasks,
            now=self._now,
            uptime=lambda: time.monotonic() - began,
            note=lambda word: self._note(arklet, word),
        )
        try:
            if self.profile.tunnel is not Tunnel.HTTP:
                await self._start_mqtt(arklet)
            if self.profile.tunnel is not Tunnel.MQTT:
                await self._start_http(arklet)
        except BaseException:
            await self._stop()
            raise
        self._arklet = arklet
        self._note(arklet, "started")

    async def _start_http(self, arklet: Arklet) -> None:
        with ExitStack() as undo:
            bound = undo.enter_context(closing(_bind(self.profile.listen, self._port)))
            self._port = bound.getsockname()[1]
            if self.profile.controller:
                self._heartbeat = Heartbeat(self.profile, self.faults, self.port)
                self._beating = asyncio.create_task(self._heartbeat.run(), name=f"{self.identity} heartbeat")
                self._beating.add_done_callback(self._ended)
            if self.profile.server_delay:
                await asyncio.sleep(self.profile.server_delay)
            server = Server(self.faults, self._tasks, arklet.execute, self._record)
            await server.start(bound)
            self._server = server
            undo.pop_all()

    async def _start_mqtt(self, arklet: Arklet) -> None:
        if self.profile.broker is None:
            raise ValueError("a base over MQTT needs a broker")
        self._mqtt = MqttTunnel(
            self.profile, self.profile.broker, self.faults, arklet, self._tasks, self._record, now=self._now
        )
        await self._mqtt.start()

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        ending = [*self._tasks, *([self._beating] if self._beating else [])]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        if self._mqtt is not None:
            self._mqtt.close()
        if self.running:
            self._note(None, "stopped")
        self._server = self._mqtt = self._beating = self._heartbeat = self._arklet = None

    def _note(self, arklet: Arklet | None, word: str) -> None:
        modules = {biz.identity: biz.state.value for biz in arklet.modules()} if arklet is not None else {}
        self._moments += 1
        self.history.append(Moment(self._moments, time.monotonic(), arklet is not None, modules, word))

    def _now(self) -> int:
        return time.time_ns() // 1_000_000 + round(self.profile.clock_skew * 1000)

    def _record(self, command: str, parameters: Json | None) -> None:
        self.commands.append(Received(command, parameters, time.monotonic()))
        self.counts[command] += 1
        if command not in _QUESTIONS:
            self._log.debug("command received", command=command)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("heartbeats ended", exc_info=error)


def _bind(host: str, port: int | None) -> socket.socket:
    ports = range(FIRST_PORT, LAST_PORT + 1) if port is None else (port,)
    problem = ""
    for candidate in ports:
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, candidate))
        except OSError as error:
            bound.close()
            problem = error.strerror or str(error)
            continue
        return bound
    tried = f"{ports[0]} to {ports[-1]}" if len(ports) > 1 else str(ports[0])
    raise NoFreePort(f"cannot listen on {host}, port {tried}: {problem}")
