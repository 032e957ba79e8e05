"""Runs the control plane and the gateways that are asked for, as one."""

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import structlog
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from modulecontroller.children import CAUSES, Child, Patience, Program
from modulecontroller.settings import SUPERVISOR, SupervisorSettings
from service import localtokens
from service.listening import host_port, is_loopback, local_host
from service.process import StartError
from service.status import StatusServer

log = structlog.get_logger(__name__)

READY_LOOK = 0.1
LOG_EVERY = 15.0
"""Seconds between two log lines that say what a start still waits for."""
AFTER_ORDERS = 4.0
"""Seconds that a gateway needs to end besides those for orders under way."""


def programs(settings: SupervisorSettings, extra: Mapping[str, str]) -> list[Program]:
    """Return the control plane and the gateways; extra is set in the environment of all."""
    control_plane = {
        **extra,
        "GRPC_HOST": settings.grpc_host,
        "CLIENT_ID": settings.client_id,
        "REPLICA_INSTANCE": uuid4().hex,
    }
    found = [Program("controlplane", "controlplane", control_plane)]
    for tunnel, enabled in (("http", settings.enable_http_tunnel), ("mqtt", settings.enable_mqtt_tunnel)):
        if enabled:
            environ = {
                **extra,
                "CONTROL_PLANE": host_port(local_host(settings.grpc_host), settings.grpc_port),
                "CLIENT_ID": f"{settings.client_id}-{tunnel}",
            }
            found.append(Program(f"{tunnel}-gateway", f"gateways.{tunnel}", environ))
    return found


def check(settings: SupervisorSettings) -> None:
    """Refuse what cannot be run; raises StartError."""
    if not (settings.enable_http_tunnel or settings.enable_mqtt_tunnel):
        raise StartError(
            "no tunnel is enabled, so no base could be reached: set ENABLE_HTTP_TUNNEL=true or ENABLE_MQTT_TUNNEL=true"
        )
    if is_loopback(settings.grpc_host) or settings.grpc_insecure:
        return
    if not (settings.grpc_crt_path and settings.control_plane_ca_path):
        raise StartError(
            f"GRPC_HOST={settings.grpc_host}: gRPC without TLS is for this machine only; set GRPC_CRT_PATH, "
            "GRPC_KEY_PATH and CONTROL_PLANE_CA_PATH, or GRPC_HOST=127.0.0.1, or GRPC_INSECURE=true to take the risk"
        )


def tokens_file(settings: SupervisorSettings, folder: str) -> str:
    """Return the file of this machine's tokens: in folder where the state folder cannot be written."""
    wanted = settings.local_tokens_path or str(localtokens.default_path())
    if settings.local_tokens_path or localtokens.can_be(Path(wanted)):
        return wanted
    log.info("the tokens of this machine are for this run only: the state folder cannot be written", folder=wanted)
    return str(Path(folder) / "tokens.csv")


@dataclass(slots=True)
class Supervisor:
    """Runs everything.

    extra is set in the environment of the control plane and the gateways. before is what these need, more what is
    started once all others are ready.
    """

    settings: SupervisorSettings
    extra: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[Program] = ()
    more: Sequence[Program] = ()
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as nothing is missing any more."""
    _children: list[Child] = field(default_factory=list)
    """All but those of more."""

    def trouble(self) -> list[str]:
        """Return what keeps children from being ready."""
        return self._lines(lambda child: child.trouble)

    def dead(self) -> list[str]:
        """Return which children do not answer any more."""
        return self._lines(lambda child: child.liveness.trouble.splitlines())

    def notes(self) -> list[str]:
        """Return what children that are ready say besides."""
        return self._lines(lambda child: child.notes)

    async def run(self, stop: asyncio.Event) -> None:
        """Run everything until stop is set; raises StartError, or a group with one for each child that cannot run."""
        check(self.settings)
        with tempfile.TemporaryDirectory(prefix="module-controller-") as sockets:
            tokens = {"LOCAL_TOKENS_PATH": tokens_file(self.settings, sockets)}
            control_plane, *gateways = programs(self.settings, {**self.extra, **tokens})
            for_orders = Patience(stop=self.settings.shutdown_timeout + AFTER_ORDERS)
            stages = [
                [Child(program, sockets) for program in self.before],
                [Child(control_plane, sockets)],
                [Child(program, sockets, for_orders) for program in gateways],
                [Child(program, sockets) for program in self.more],
            ]
            self._children = [child for stage in stages[:-1] for child in stage]
            status = StatusServer(
                self.trouble,
                health_port=self.settings.health_port,
                metrics_port=self.settings.metrics_port,
                host=self.settings.status_host,
                metrics=lambda: merged(self._children),
                dead=self.dead,
                notes=self.notes,
            )
            try:
                await status.start()
                await self._run(stages, stop)
            finally:
                await status.stop()

    def _lines(self, of: Callable[[Child], Iterable[str]]) -> list[str]:
        return [f"{child.program.name}: {line}" for child in self._children for line in of(child)]

    async def _run(self, stages: Sequence[Sequence[Child]], stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(self._start(group, stages), name="start")
            await stop.wait()
            starting.cancel()
            # Those that depend on others end first: bases, then gateways, then the control plane.
            for stage in reversed(stages):
                tasks = [child.task for child in stage if child.task is not None]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self, group: asyncio.TaskGroup, stages: Sequence[Sequence[Child]]) -> None:
        """Start each child when those before it answer, those of the last stage when all before are ready."""
        for stage in stages:
            if stage is stages[-1]:
                await self._until_ready()
            for child in stage:
                child.task = group.create_task(child.run(), name=child.program.name)
                await child.started.wait()

    async def _until_ready(self) -> None:
        """Set ready as soon as nothing is missing any more; what is missing for long is logged."""
        clock = asyncio.get_running_loop().time
        logged_at = clock()
        while missing := self.trouble():
            if clock() - logged_at >= LOG_EVERY:
                log.warning("not ready yet", missing=missing)
                logged_at = clock()
            await asyncio.sleep(READY_LOOK)
        self.ready.set()


async def merged(children: Sequence[Child]) -> bytes:
    """Return our metrics, and what the children say now, in the text format of Prometheus.

    A child that does not answer has none.
    """
    answers = await asyncio.gather(*(child.ask("/metrics") for child in children))
    answered = zip((child.program.name for child in children), answers, strict=True)
    texts = {name: answer[1] for name, answer in answered if answer is not None and answer[0] == 200}
    families: dict[str, Metric] = {}
    for program, text in {SUPERVISOR: generate_latest().decode(), **texts}.items():
        for family in text_string_to_metric_families(text):
            metric = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                metric.samples.append(sample._replace(labels={**sample.labels, "program": program}))
    names = ("program", "cause")
    restarts = CounterMetricFamily("koupleless_child_restarts_total", "Restarts of child processes", labels=names)
    for child in children:
        for cause in CAUSES:
            restarts.add_metric((child.program.name, cause), child.restarts[cause])
    return generate_latest(_Fixed([*families.values(), restarts]))


class _Fixed(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)
