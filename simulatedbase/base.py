"""A simulated base: its modules and its tunnels, started and stopped as one; and many of them in one process."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from simulatedbase.arklet import Arklet
from simulatedbase.http.tunnel import HttpTunnel, bind
from simulatedbase.life import Life
from simulatedbase.mqtt.tunnel import MqttTunnel
from simulatedbase.profile import Faults, Profile, Tunnel
from simulatedbase.runtime import Biz


class SimulatedBase:
    """One base. Many can live in one process; none blocks another.

    faults may be changed at any time. commands, counts and history are those of its life, restarts included.
    """

    def __init__(self, profile: Profile, faults: Faults | None = None) -> None:
        self.profile = profile
        self.faults = faults or Faults()
        self._life = Life(profile, self.faults)
        self.commands, self.counts, self.history = self._life.commands, self._life.counts, self._life.history
        self._port = profile.port
        self._changing = asyncio.Lock()
        self._arklet: Arklet | None = None
        self._http: HttpTunnel | None = None
        self._mqtt: MqttTunnel | None = None

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
        """Whether the base takes commands."""
        return self._arklet is not None

    @property
    def connected(self) -> bool:
        """Whether the base has a connection to its broker."""
        return self._mqtt is not None and self._mqtt.connected

    @property
    def heartbeats_over_mqtt(self) -> bool:
        """Whether heartbeats over MQTT did not end."""
        return self._mqtt is not None and self._mqtt.sends_heartbeats

    def modules(self) -> list[Biz]:
        """Return the modules inside the base; none when it does not run."""
        return self._arklet.modules() if self._arklet is not None else []

    def keep_port(self) -> socket.socket | None:
        """Choose the port, if any free one will do; nobody else is given it until what this returns is closed.

        That stays bound and never listens: a base that is stopped refuses connections, and has its port when it starts
        again. Raises StartError.
        """
        if self.profile.tunnel is Tunnel.MQTT or self._port != 0:
            return None
        kept = bind(self.profile.listen, 0)
        self._port = kept.getsockname()[1]
        return kept

    async def start(self) -> None:
        """Start without modules; raises StartError, or ValueError for a profile that cannot be.

        The first heartbeat over HTTP goes out at once, which can be before the server listens.
        """
        async with self._changing:
            if not self.running:
                await self._start()

    async def stop(self) -> None:
        """Leave in silence, as a Java base does: commands under way are cut, modules are lost."""
        async with self._changing:
            await self._stop()

    async def deactivate(self) -> None:
        """Say DEACTIVATED to the controller, then stop."""
        async with self._changing:
            if self._http is not None:
                await self._http.deactivate()
            if self._mqtt is not None:
                await self._mqtt.deactivate()
            await self._stop()

    def cut(self, seconds: float) -> None:
        """Lose the connection to the broker for so long; without one nothing happens."""
        if self._mqtt is not None:
            self._mqtt.cut(seconds)

    async def restart(self, port: int | None = None) -> None:
        """Stop and start under the same identity, without modules, on the same port unless another is given."""
        async with self._changing:
            await self._stop()
            if port is not None:
                self._port = port
            await self._start()

    async def _start(self) -> None:
        self._life.begin()
        arklet = Arklet(self._life)
        try:
            if self.profile.tunnel is not Tunnel.HTTP:
                self._mqtt = MqttTunnel(self._life, arklet)
                await self._mqtt.start()
            if self.profile.tunnel is not Tunnel.MQTT:
                self._http = HttpTunnel(self._life, arklet, self._port)
                self._port = self._http.port
                await self._http.start()
        except BaseException:
            await self._stop()
            raise
        self._arklet = arklet
        arklet.note("started")

    async def _stop(self) -> None:
        if self._http is not None:
            self._http.close()
        await self._life.end()
        if self._mqtt is not None:
            self._mqtt.close()
        if self.running:
            self._life.changed([], "stopped", running=False)
        self._arklet = self._http = self._mqtt = None


class Fleet:
    """Bases started one after another, evenly over a time, and stopped together."""

    def __init__(self, bases: Sequence[SimulatedBase]) -> None:
        self._bases = {base.identity: base for base in bases}
        self._ports: list[socket.socket] = []

    def bases(self) -> list[SimulatedBase]:
        """Return all bases in order."""
        return list(self._bases.values())

    def select(self, identity: str) -> list[SimulatedBase]:
        """Return one base, or all for an empty identity; raises KeyError."""
        return [self._bases[identity]] if identity else self.bases()

    async def start(self, ramp: float, started: Callable[[SimulatedBase], None]) -> None:
        """Start all bases over ramp seconds, and call started with each. Raises what a base's start raises."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for index, base in enumerate(self.bases()):
            await asyncio.sleep(began + ramp * index / len(self._bases) - loop.time())
            if (kept := base.keep_port()) is not None:
                self._ports.append(kept)
            await base.start()
            started(base)

    async def stop(self) -> None:
        """Stop all bases."""
        await asyncio.gather(*(base.stop() for base in self.bases()))
        for kept in self._ports:
            kept.close()


def profiles(first: Profile, count: int) -> list[Profile]:
    """Return count profiles: first alone under its own identity, several as IDENTITY-1 to IDENTITY-count.

    A fixed port counts up from base to base.
    """
    if count == 1:
        return [first]
    port = first.port
    return [
        first.model_copy(update={"identity": f"{first.identity}-{number + 1}", "port": port + number if port else port})
        for number in range(count)
    ]
