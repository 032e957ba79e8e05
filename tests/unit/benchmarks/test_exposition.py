"""Benchmarks read metrics: counts, differences and quantiles."""

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from benchmarks.exposition import Exposition, parse, total


class Program:
    """A program that counts as the control plane does."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("verb", "resource", "code")
        self.requests = Counter("koupleless_api_requests_total", "Requests", labels, registry=self.registry)
        self.seconds = Histogram("seconds", "Seconds", ["verb"], buckets=(1, 2, 4), registry=self.registry)

    def scrape(self) -> Exposition:
        return parse(generate_latest(self.registry).decode())


@pytest.fixture
def program() -> Program:
    return Program()


def test_writes_are_counted_apart_from_reads(program: Program) -> None:
    for verb, resource in (("create", "nodes"), ("patch", "leases"), ("patch", "leases"), ("watch", "nodes")):
        program.requests.labels(verb, resource, "200").inc()
    program.requests.labels("patch", "leases", "409").inc()
    exposition = program.scrape()
    assert exposition.writes() == {("create", "nodes"): 1, ("patch", "leases"): 3}
    assert exposition.reads() == 1


def test_only_what_was_added_counts(program: Program) -> None:
    program.requests.labels("patch", "leases", "200").inc(5)
    before = program.scrape()
    program.requests.labels("patch", "leases", "200").inc(2)
    program.requests.labels("create", "nodes", "201").inc()
    assert program.scrape().since(before).writes() == {("create", "nodes"): 1, ("patch", "leases"): 2}
    assert program.scrape().since(program.scrape()).writes() == {}


def test_programs_count_together(program: Program) -> None:
    program.requests.labels("patch", "leases", "200").inc(2)
    other = Program()
    other.requests.labels("patch", "leases", "200").inc(3)
    other.requests.labels("create", "nodes", "201").inc()
    both = total([program.scrape(), other.scrape()])
    assert both.writes() == {("create", "nodes"): 1, ("patch", "leases"): 5}


def test_quantiles_lie_within_their_bucket(program: Program) -> None:
    for value in (0.5, 1.5, 1.5, 3.0):
        program.seconds.labels("a").observe(value)
    exposition = program.scrape()
    assert exposition.count("seconds") == 4
    assert exposition.quantile("seconds", 0.25) == 1
    assert exposition.quantile("seconds", 0.5) == 1.5
    assert exposition.quantile("seconds", 1.0) == 4


def test_a_quantile_can_be_limited_to_labels(program: Program) -> None:
    program.seconds.labels("a").observe(0.5)
    program.seconds.labels("b").observe(3.0)
    assert program.scrape().quantile("seconds", 1.0, {"verb": "a"}) == 1
    assert program.scrape().quantile("seconds", 1.0, {"verb": "b"}) == 4
    assert program.scrape().quantile("seconds", 1.0) == 4


def test_a_quantile_beyond_all_bounds_is_the_highest(program: Program) -> None:
    program.seconds.labels("a").observe(99)
    assert program.scrape().quantile("seconds", 0.5) == 4


def test_a_quantile_without_observations_is_nan(program: Program) -> None:
    assert math.isnan(program.scrape().quantile("seconds", 0.5))
    assert math.isnan(program.scrape().quantile("of-nothing", 0.5))


def test_text_that_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError):
        parse("<html>not found</html>")
