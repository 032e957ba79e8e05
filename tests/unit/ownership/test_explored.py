"""I1 and I2 hold in every explored run, and each run settles after its faults.

A run that fails is printed as a seed and a list of faults, shortened as far as hypothesis can, with the command that
runs it again. More of them: OWNERSHIP_RUNS=2000 pytest tests/unit/ownership, or python -m tests.unit.ownership.explore.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.ownership.faults import AFTER, KINDS, SECONDS, SHAPES, Fault, drawn, explore
from tests.unit.ownership.model import Shape, running

RUNS = int(os.environ.get("OWNERSHIP_RUNS", "40"))
"""Without the variable the runs are the same every time, so that results of changes can be compared."""

faults = st.lists(
    st.builds(
        Fault,
        after=st.sampled_from(AFTER),
        kind=st.sampled_from(sorted(KINDS)),
        which=st.integers(0, 41),
        seconds=st.sampled_from(SECONDS),
    ),
    max_size=20,
)


@pytest.mark.timeout(60 + 5 * RUNS)
@settings(max_examples=RUNS, derandomize="OWNERSHIP_RUNS" not in os.environ, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES), happens=faults)
def test_any_faults(seed: int, shape: Shape, happens: list[Fault]) -> None:
    explore(seed, shape, happens)


def test_a_seed_gives_the_same_run_again() -> None:
    def trace() -> list[str]:
        shape, happens = drawn(68)
        with running(68, shape, happens) as model:
            model.world.run(15.0)
            for fault in happens:
                model.world.run(fault.after)
                KINDS[fault.kind](model, fault.which, fault.seconds)
            model.world.run(20.0)
            return model.world.trace

    first = trace()
    assert len(first) > 30
    assert trace() == first
