"""Benchmarks report figures: percentiles, spread, tables and JSON."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Figure, Report, as_json, number, percentile, spread, table

MACHINE = {"machine": "2 cores", "load before": "0.10"}


def report(*figures: Figure) -> Report:
    return Report("idle, 10 bases", "python -m benchmarks idle --bases 10", MACHINE, figures)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_a_value_that_enough_others_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) <= share * len(values)


def test_percentiles_of_a_hundred_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50, 99, 100)
    assert math.isnan(percentile([], 0.5))


def test_spread_is_in_milliseconds_and_aims_at_p99() -> None:
    p50, p99 = spread("waiting", [0.1, 0.2], target=100)
    assert (p50.value, p50.target, p50.ratio) == (100, None, None)
    assert (p99.value, p99.target, p99.ratio) == (200, 100, 2)


def test_what_must_not_happen_is_met_or_missed_and_has_no_ratio() -> None:
    figures = [Figure("lost", 0.0, "1", 0.0), Figure("lost", 1.0, "1", 0.0)]
    assert [(figure.missed, figure.ratio) for figure in figures] == [(False, None), (True, None)]


def test_a_table_shows_target_ratio_machine_and_command() -> None:
    text = table(report(Figure("writes", 3.1, "1/min", 6.2, "within 60 s"), Figure("lost", math.nan, "s", 1.0)))
    row = next(line for line in text.splitlines() if line.lstrip().startswith("writes"))
    assert row.split() == ["writes", "3.10", "<=", "6.20", "0.50", "1/min", "within", "60", "s"]
    assert next(line for line in text.splitlines() if line.lstrip().startswith("lost")).split()[1] == "-"
    assert "command: python -m benchmarks idle --bases 10" in text
    assert "load before: 0.10" in text


def test_json_has_the_same_figures_with_null_for_nan() -> None:
    document = json.loads(as_json([report(Figure("writes", 3.1, "1/min", 6.2), Figure("lost", math.nan, "s"))]))
    writes, lost = document[0]["figures"]
    assert (writes["value"], writes["target"], writes["ratio"]) == (3.1, 6.2, 0.5)
    assert (lost["value"], lost["ratio"]) == (None, None)
    assert document[0]["machine"] == MACHINE


def test_numbers_have_about_three_significant_digits() -> None:
    texts = [number(value) for value in (0, 0.0421, 1.234, 12.34, 1234.5, math.nan)]
    assert texts == ["0.00", "0.042", "1.23", "12.3", "1,234", "-"]


def test_a_target_may_be_the_smallest_that_is_good_enough() -> None:
    slow, fast = (Figure("rate", value, "1/s", 8000.0, at_least=True) for value in (4000.0, 16_000.0))
    assert (slow.ratio, slow.missed, slow.aim) == (2, True, ">= 8,000")
    assert (fast.ratio, fast.missed) == (0.5, False)
    nothing = Figure("rate", 0.0, "1/s", 8000.0, at_least=True)
    assert (nothing.ratio, nothing.missed) == (None, True)
    assert not Figure("rate", 0.0, "1/s").missed
    assert not Figure("rate", math.nan, "1/s", 8000.0, at_least=True).missed
