"""Health and metrics of all children on the ports of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NoReturn

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from modulecontroller.children import CAUSES, Child, ask

LOOK_EVERY = 0.5


class ChildrenStatus(Collector):
    """What the children say of themselves, looked at each second; metrics carry the label program.

    A child that does not answer has no metrics: old ones would pass for what is the case now.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._trouble = {child.program.name: "not started yet" for child in children}
        self._notes: dict[str, list[str]] = {}
        self._metrics: dict[str, str] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def trouble(self) -> list[str]:
        """Return what keeps children from being ready."""
        return [f"{name}: {line}" for name, text in self._trouble.items() for line in text.splitlines()]

    def dead(self) -> list[str]:
        """Return which children do not answer any more."""
        return [f"{child.program.name}: {fault}" for child in self._children if (fault := child.liveness.trouble)]

    def notes(self) -> list[str]:
        """Return what children that are ready have to say."""
        return [f"{name}: {line}" for name, lines in self._notes.items() for line in lines]

    async def run(self) -> None:
        """Look at the children until cancelled, so that one that hangs delays no other."""
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._follow(child), name=f"status-{child.program.name}")

    async def _follow(self, child: Child) -> NoReturn:
        while True:
            await self._look(child)
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, child: Child) -> None:
        name = child.program.name
        ready = await ask(child.socket, "/readyz")
        if ready is None:
            self._trouble[name], self._notes[name] = "does not answer", []
        else:
            status, text = ready
            self._notes[name] = text.splitlines()[1:] if status == 200 else []
            self._trouble[name] = "" if status == 200 else text.strip() or f"answers {status}"
        metrics = await ask(child.socket, "/metrics")
        if metrics is not None and metrics[0] == 200:
            self._metrics[name] = metrics[1]
        else:
            self._metrics.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """Return the children's metrics as one set."""
        merged: dict[str, Metric] = {}
        for program, text in self._metrics.items():
            for family in text_string_to_metric_families(text):
                metric = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    labels = {**sample.labels, "program": program}
                    metric.add_sample(sample.name, labels, sample.value, sample.timestamp, sample.exemplar)
        yield from merged.values()
        restarts = Metric("koupleless_child_restarts", "Restarts of child processes", "counter")
        for child in self._children:
            for cause in CAUSES:
                labels = {"program": child.program.name, "cause": cause}
                restarts.add_sample("koupleless_child_restarts_total", labels, child.restarts[cause])
        yield restarts
