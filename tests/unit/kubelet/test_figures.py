"""What bases use is divided among modules by one rule, and written as kubelets write it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from controlplane.domain.base.usage import Usage
from controlplane.domain.objects import Container, ContainerStatus, Pod, PodStatus
from controlplane.kubelet import figures

MIB = 1024 * 1024
USED = Usage(1_700_000_000.5, 100 * MIB, 60 * MIB, 300 * MIB, 500.25, 40.5)


def pod(name: str, *requests: int, kind: str = "running") -> Pod:
    containers = tuple(Container(f"biz{number}", "", memory=size) for number, size in enumerate(requests))
    statuses = tuple(ContainerStatus(each.name, kind, started_at="2026-01-31T12:00:00Z") for each in containers)
    status = PodStatus("Running", containers=statuses, start_time="2026-01-31T11:59:59Z")
    return Pod("modules", name, f"uid-{name}", "1", "vnode.b1.dev", containers, status)


def read(text: bytes) -> dict[str, dict[tuple[str, ...], tuple[float, float | None]]]:
    """Return value and time of each sample, by its name and then its labels by name."""
    found: dict[str, dict[tuple[str, ...], tuple[float, float | None]]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            at = float(sample.timestamp) if sample.timestamp is not None else None
            found.setdefault(sample.name, {})[labels] = (sample.value, at)
    return found


def test_metrics_have_the_names_and_times_that_kubelets_give_them() -> None:
    found = read(figures.resource_metrics(USED, [pod("a", 3 * MIB, MIB), pod("b", 4 * MIB)]))
    at = 1_700_000_000.5
    assert found == {
        "node_cpu_usage_seconds_total": {(): (500.25, at)},
        "node_memory_working_set_bytes": {(): (100 * MIB, at)},
        "container_cpu_usage_seconds_total": {
            ("biz0", "modules", "a"): (40.5, at),
            ("biz1", "modules", "a"): (40.5, at),
            ("biz0", "modules", "b"): (40.5, at),
        },
        "container_memory_working_set_bytes": {
            ("biz0", "modules", "a"): (15 * MIB, at),
            ("biz1", "modules", "a"): (5 * MIB, at),
            ("biz0", "modules", "b"): (20 * MIB, at),
        },
        "pod_cpu_usage_seconds_total": {("modules", "a"): (81.0, at), ("modules", "b"): (40.5, at)},
        "pod_memory_working_set_bytes": {("modules", "a"): (20 * MIB, at), ("modules", "b"): (20 * MIB, at)},
        "resource_scrape_error": {(): (0.0, None)},
    }


def test_what_is_not_known_is_left_out() -> None:
    assert set(read(figures.resource_metrics(None, [pod("a", 1)]))) == {"resource_scrape_error"}
    nothing_but_metaspace = read(figures.resource_metrics(Usage(1.0, 5), [pod("a", 1)]))
    assert set(nothing_but_metaspace) == {"node_memory_working_set_bytes", "resource_scrape_error"}
    assert figures.summary("n", None, [pod("a", 1)])["pods"] == []
    assert set(read(figures.base_metrics(Usage(1.0, 5), "n"))) == {"koupleless_base_metaspace_used_bytes"}
    too_much = read(figures.resource_metrics(Usage(1.0, 5, cpu=1e11), []))
    assert "node_cpu_usage_seconds_total" not in too_much


@pytest.mark.parametrize("kind", ["waiting", "terminated", ""])
def test_only_what_runs_uses_something(kind: str) -> None:
    assert figures.of_modules(USED, [pod("a", 1, kind=kind)]) == []


def test_modules_have_equal_parts_where_one_requests_nothing() -> None:
    assert [each.memory for each in figures.of_modules(USED, [pod("a", 0), pod("b", 7)])] == [20 * MIB, 20 * MIB]


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(0, 2**50), st.integers(0, 2**50))
def test_parts_add_up_to_what_is_used_beyond_the_bases_own(requests: Sequence[int], used: int, own: int) -> None:
    usage = Usage(1.0, used, own, share=1.0)
    parts = [each.memory or 0 for each in figures.of_modules(usage, [pod("a", *requests)])]
    assert all(part >= 1 for part in parts), "0 would count as not known"
    beyond = max(used - own, 0)
    assert abs(sum(parts) - beyond) <= len(parts) + beyond * 1e-9


def test_a_summary_names_pods_and_times() -> None:
    found = figures.summary("vnode.b1.dev", USED, [pod("a", MIB)])
    assert found["node"]["nodeName"] == "vnode.b1.dev"
    assert found["node"]["memory"]["workingSetBytes"] == 100 * MIB
    assert found["node"]["cpu"]["usageCoreNanoSeconds"] == 500_250_000_000
    entry = found["pods"][0]
    assert entry["podRef"] == {"name": "a", "namespace": "modules", "uid": "uid-a"}
    assert entry["containers"][0]["name"] == "biz0"
    assert entry["containers"][0]["memory"]["workingSetBytes"] == 40 * MIB


def test_names_that_break_the_format_are_escaped() -> None:
    text = figures.base_metrics(USED, 'a"b\nc')
    assert read(text)["koupleless_base_heap_used_bytes"] == {('a"b\nc',): (300 * MIB, USED.at)}
