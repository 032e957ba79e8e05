"""The stage of the MQTT measurement: Mosquitto, a control plane on the embedded cluster, one gateway, bases.

All are processes on loopback, so that each one's CPU time and memory can be metrics.
"""

import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from benchmarks import exposition, trusted, usage
from benchmarks.api import CALL_TIMEOUT, Api, Failed, connected
from benchmarks.bases import IDENTITY
from benchmarks.exposition import Exposition
from benchmarks.progress import say
from grpcclient.access import ClientAccess
from tests.programs import ControlPlane, MqttGateway, Programs
from tests.servers.mosquitto import Mosquitto
from tests.servers.process import Server

ENV = "dev"
CONTROL_PLANE, GATEWAY = "control plane", "gateway"
BROKER_SETTINGS = (
    "allow_anonymous true",
    "max_inflight_messages 200",
    "max_queued_messages 100000",
    "sys_interval 1",
)
PAGE = 1000


@dataclass(frozen=True)
class MqttStage:
    """Everything runs but the bases, which begin when fleet is started."""

    bases: int
    broker: Mosquitto
    fleet: Server
    address: str
    """Where the control plane's gRPC server listens."""
    metrics: dict[str, str]
    pids: dict[str, int]
    """Process ids of what runs, by the name under which it is reported."""
    tool: ClientAccess
    bases_root: str
    """Where the bases are controlled once they run."""


@dataclass(frozen=True)
class Seen:
    """What the tooling API metrics of one VNode; last_seen in seconds of the epoch."""

    ready: bool
    last_seen: float


@dataclass(frozen=True)
class MqttLine:
    """Connections to the stage."""

    stage: MqttStage
    fleet: Api
    _tooling: Any  # the generated asynchronous stub has no type of its own
    _programs: dict[str, Api]

    async def metrics(self, program: str) -> Exposition:
        """Return what a program gives on /metrics; raises Failed."""
        return exposition.parse(await self._programs[program].text("/metrics"))

    def usage(self) -> dict[str, usage.Usage]:
        """Return what each process uses."""
        pids = {**self.stage.pids, "bases": self.stage.fleet.pid, "this program": os.getpid()}
        return usage.snapshot(pids)

    async def vnodes(self) -> dict[str, Seen]:
        """Return all VNodes by base; raises Failed."""
        found: dict[str, Seen] = {}
        request = pb.ListVNodesRequest(page_size=PAGE)
        while True:
            try:
                shown = self.stage.tool.metadata(self.stage.address)
                page = await self._tooling.ListVNodes(request, metadata=shown, timeout=CALL_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                raise Failed(f"ListVNodes: {error.code().name} {error.details()}") from error
            for item in page.items:
                found[item.base] = Seen(item.ready, item.last_seen.seconds + item.last_seen.nanos / 1e9)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found


@contextmanager
def mqtt_stage(bases: int, ramp: float, logs: Path | None = None) -> Iterator[MqttStage]:
    """Build it, and take it down. The bases connect over ramp seconds.

    Logs of our programs stay in a folder if one is given. Raises Unavailable, ServerFailed, OSError.
    """
    say("starting Mosquitto, control plane and gateway")
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        Mosquitto(BROKER_SETTINGS) as broker,
        Programs(logs or Path(folder)) as programs,
    ):
        database = str(Path(folder) / "cluster.db")
        control_plane = ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=database, ENV=ENV).start()
        gateway = MqttGateway(programs, control_plane.address, broker.port, ENV=ENV).start()
        admin = programs.port()
        fleet = programs.program(
            "bases",
            "simulatedbase",
            *("--tunnel", "mqtt", "--broker", broker.host, "--mqtt-port", str(broker.port), "--env", ENV),
            *("--identity", IDENTITY, "--count", str(bases), "--ramp", str(ramp), "--heartbeats-survive"),
            *("--admin-port", str(admin), "--log-level", "error"),
            environ={},
        )
        yield MqttStage(
            bases=bases,
            broker=broker,
            fleet=fleet,
            address=control_plane.address,
            metrics={
                CONTROL_PLANE: f"http://127.0.0.1:{control_plane.metrics}",
                GATEWAY: f"http://127.0.0.1:{gateway.metrics}",
            },
            pids={
                CONTROL_PLANE: control_plane.server.pid,
                GATEWAY: gateway.server.pid,
                "Mosquitto": usage.children(os.getpid())["mosquitto"],
            },
            tool=trusted.plaintext(programs.folder).tool,
            bases_root=f"http://127.0.0.1:{admin}",
        )
        say("taking everything down")


@asynccontextmanager
async def mqtt_line(built: MqttStage) -> AsyncIterator[MqttLine]:
    """Connect to a stage."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(built.tool.channel(built.address, ()))
        fleet = await stack.enter_async_context(connected(built.bases_root))
        programs = {name: await stack.enter_async_context(connected(root)) for name, root in built.metrics.items()}
        yield MqttLine(built, fleet, ModuleControllerServiceStub(channel), programs)


def clock() -> float:
    """Return the time that last_seen is metrics in: seconds of the epoch."""
    return time.time()
