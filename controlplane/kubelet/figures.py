"""What bases and modules use, in the forms in which kubelets say it. Pure.

Names and units are those of kubelets' /metrics/resource and /stats/summary. Memory is metaspace in bytes: what modules
consume of a base, and what their Pods request. CPU is in seconds, of the machine on which the base runs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.cluster.api import Json
from controlplane.domain.base.usage import Usage
from controlplane.domain.objects import Container, Pod
from controlplane.domain.times import rfc3339

HIGHEST = 1e10
"""Seconds of CPU; readers count nanoseconds in 64 bits."""


@dataclass(frozen=True, slots=True)
class ModuleUsage:
    """What is counted as the use of one container of a module Pod; None is not known."""

    pod: Pod
    container: str
    started: str
    memory: int | None
    cpu: float | None

    @property
    def labels(self) -> tuple[str, str, str]:
        """Container, namespace and Pod."""
        return self.container, self.pod.namespace, self.pod.name


def of_modules(usage: Usage, pods: Iterable[Pod]) -> list[ModuleUsage]:
    """Divide what a base uses among the modules that run on it.

    A base does not know what each of them uses. Metaspace beyond the base's own is divided as the modules request it,
    evenly where one requests nothing; CPU is divided evenly.
    """
    running = [
        (pod, container, status.started_at)
        for pod in pods
        for container in pod.containers
        for status in pod.status.containers
        if status.name == container.name and status.kind == "running"
    ]
    parts = _parts([container for _, container, _ in running])
    beyond = max(usage.metaspace - usage.own, 0) if usage.own is not None else None
    return [
        ModuleUsage(
            pod,
            container.name,
            started,
            # Nothing at all would count as not known.
            memory=None if beyond is None else max(int(beyond * part), 1),
            cpu=_countable(usage.share),
        )
        for (pod, container, started), part in zip(running, parts, strict=True)
    ]


def _parts(containers: Sequence[Container]) -> list[float]:
    requests = [container.memory for container in containers]
    if not all(requests):
        requests = [1] * len(containers)
    return [request / sum(requests) for request in requests]


def _countable(seconds: float | None) -> float | None:
    return seconds if seconds is not None and seconds <= HIGHEST else None


def resource_metrics(usage: Usage | None, pods: Iterable[Pod]) -> bytes:
    """Write /metrics/resource of one Node; what is not known is left out."""
    return _written(_resource_families(usage, pods))


def base_metrics(usage: Usage | None, node: str) -> bytes:
    """Write /metrics of one Node: what its base says of itself."""
    return _written(_base_families(usage, node))


def _resource_families(usage: Usage | None, pods: Iterable[Pod]) -> Iterator[Metric]:
    if usage is not None:
        at, modules = usage.at, of_modules(usage, pods)
        if (cpu := _countable(usage.cpu)) is not None:
            family = CounterMetricFamily("node_cpu_usage_seconds", "CPU of the base's machine", labels=())
            family.add_metric((), cpu, timestamp=at)
            yield family
        gauge = GaugeMetricFamily("node_memory_working_set_bytes", "Metaspace that the base uses", labels=())
        gauge.add_metric((), usage.metaspace, timestamp=at)
        yield gauge
        for kind, names in (("container", ("container", "namespace", "pod")), ("pod", ("namespace", "pod"))):
            yield from _module_families(kind, names, modules, at)
    errors = GaugeMetricFamily("resource_scrape_error", "1 if there was an error while getting metrics, 0 otherwise")
    errors.add_metric((), 0)
    yield errors


def _module_families(kind: str, names: Sequence[str], modules: Sequence[ModuleUsage], at: float) -> Iterator[Metric]:
    cpu = CounterMetricFamily(f"{kind}_cpu_usage_seconds", "Part in the CPU of the base's machine", labels=names)
    memory = GaugeMetricFamily(f"{kind}_memory_working_set_bytes", "Part in the base's metaspace", labels=names)
    for family, field in ((cpu, "cpu"), (memory, "memory")):
        totals: dict[tuple[str, ...], float] = {}
        for module in modules:
            labels, value = module.labels[-len(names) :], getattr(module, field)
            if value is not None:
                totals[labels] = totals.get(labels, 0) + value
        for labels, total in totals.items():
            family.add_metric(labels, total, timestamp=at)
        yield family


def _base_families(usage: Usage | None, node: str) -> Iterator[Metric]:
    if usage is None:
        return
    known = {
        "koupleless_base_metaspace_used_bytes": ("Metaspace that the base uses", usage.metaspace),
        "koupleless_base_metaspace_own_bytes": ("Metaspace that the base uses without its modules", usage.own),
        "koupleless_base_heap_used_bytes": ("Heap that the base uses", usage.heap),
    }
    for name, (what, value) in known.items():
        if value is not None:
            gauge = GaugeMetricFamily(name, what, labels=("node",))
            gauge.add_metric((node,), value, timestamp=usage.at)
            yield gauge
    if usage.cpu is not None:
        family = CounterMetricFamily("koupleless_base_cpu_seconds_total", "CPU of the base's machine", labels=("node",))
        family.add_metric((node,), usage.cpu, timestamp=usage.at)
        yield family


@dataclass(eq=False)
class _Families(Collector):
    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def _written(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(tuple(families)))
    return generate_latest(registry)


def summary(node: str, usage: Usage | None, pods: Iterable[Pod]) -> Json:
    """Write /stats/summary of one Node."""
    if usage is None:
        return {"node": {"nodeName": node, "startTime": None}, "pods": []}
    time = rfc3339(usage.at)
    found: dict[str, Json] = {}
    for module in of_modules(usage, pods):
        pod = module.pod
        reference = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
        start = pod.status.start_time or None
        entry = found.setdefault(pod.key, {"podRef": reference, "startTime": start, "containers": []})
        figures = _stats(time, module.memory, module.cpu)
        entry["containers"].append({"name": module.container, "startTime": module.started or None, **figures})
    return {
        "node": {"nodeName": node, "startTime": None, **_stats(time, usage.metaspace, _countable(usage.cpu))},
        "pods": list(found.values()),
    }


def _stats(time: str, memory: int | None, cpu: float | None) -> Json:
    found: Json = {}
    if cpu is not None:
        found["cpu"] = {"time": time, "usageCoreNanoSeconds": int(cpu * 1e9)}
    if memory is not None:
        found["memory"] = {"time": time, "usageBytes": memory, "workingSetBytes": memory}
    return found
