"""Health and metrics of all children on the ports of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from modulecontroller.children import Child, ask

LOOK_EVERY = 0.5


class ChildrenStatus(Collector):
    """What the children say of themselves, looked at each second; metrics carry the label program."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._trouble: dict[str, str] = {c.program.name: "not started yet" for c in children}
        self._metrics: dict[str, str] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def trouble(self) -> list[str]:
        """Return what keeps children from being ready."""
        return [f"{name}: {line}" for name, text in self._trouble.items() for line in text.splitlines()]

    async def run(self) -> None:
        """Look at the children for ever."""
        while True:
            await asyncio.gather(*(self._look(child) for child in self._children))
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, child: Child) -> None:
        name = child.program.name
        ready = await ask(child.socket, "/readyz")
        if ready is None:
            self._trouble[name] = "does not answer"
        else:
            status, text = ready
            self._trouble[name] = "" if status == 200 else text.strip() or f"answers {status}"
        metrics = await ask(child.socket, "/metrics")
        if metrics is not None and metrics[0] == 200:
            self._metrics[name] = metrics[1]

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
            restarts.add_sample("koupleless_child_restarts_total", {"program": child.program.name}, child.restarts)
        yield restarts
