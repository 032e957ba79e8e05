from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.embedded.controllers.rollout import SetScale, bounds, next_scales, template_hash


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [("25%", "25%", 1, (1, 0)), ("25%", "25%", 10, (3, 2)), (0, "10%", 3, (0, 1)), (2, 0, 3, (2, 0))],
)
def test_percentages_round_for_more_availability(
    surge: object, unavailable: object, replicas: int, expected: tuple[int, int]
) -> None:
    assert bounds({"maxSurge": surge, "maxUnavailable": unavailable}, replicas) == expected


def test_the_hash_tells_templates_apart_and_ignores_the_order_of_keys() -> None:
    assert template_hash({"a": 1, "b": 2}) == template_hash({"b": 2, "a": 1}) != template_hash({"a": 1, "b": 3})


def test_a_new_module_is_installed_before_the_old_one_goes() -> None:
    old, new = SetScale("old", 1, 1), SetScale("new", 0, 0)
    assert next_scales(1, 1, 0, new, [old]) == {"new": 1}
    assert next_scales(1, 1, 0, SetScale("new", 1, 0), [old]) == {}
    assert next_scales(1, 1, 0, SetScale("new", 1, 1), [old]) == {"old": 0}


def test_what_is_not_available_goes_first() -> None:
    sets = [SetScale("older", 2, 2), SetScale("broken", 2, 0)]
    assert next_scales(4, 0, 1, SetScale("new", 0, 0), sets) == {"broken": 1}
    # Two of four may be missing, and two are.
    assert next_scales(4, 0, 2, SetScale("new", 0, 0), sets) == {"broken": 0}


scales = st.builds(lambda r, a: (r, min(r, a)), st.integers(0, 6), st.integers(0, 6))


@given(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3), scales, st.lists(scales, max_size=3))
def test_every_step_keeps_the_bounds(
    replicas: int, surge: int, unavailable: int, new: tuple[int, int], old: list[tuple[int, int]]
) -> None:
    if not surge and not unavailable:
        unavailable = 1
    sets = [SetScale("new", *new), *(SetScale(f"old{i}", *s) for i, s in enumerate(old))]
    after = next_scales(replicas, surge, unavailable, sets[0], sets[1:])
    total = sum(s.replicas for s in sets)
    total_after = sum(after.get(s.name, s.replicas) for s in sets)
    assert total_after <= max(total, replicas + surge)
    if "new" in after:
        return  # the new set alone follows spec.replicas, also downwards
    available = sum(s.available for s in sets)
    # At worst the set removes available Pods only after those that are not.
    available_after = sum(min(s.available, after.get(s.name, s.replicas)) for s in sets)
    assert available_after >= min(available, replicas - unavailable)


@given(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2), st.lists(scales, max_size=3))
def test_a_rollout_ends_with_the_new_set_alone(
    replicas: int, surge: int, unavailable: int, old: list[tuple[int, int]]
) -> None:
    if not surge and not unavailable:
        surge = 1
    sets = {"new": SetScale("new", 0, 0), **{f"old{i}": SetScale(f"old{i}", *s) for i, s in enumerate(old)}}
    for _ in range(60):
        after = next_scales(replicas, surge, unavailable, sets["new"], [s for n, s in sets.items() if n != "new"])
        if not after:
            break
        for name, wanted in after.items():
            # Pods of the new set become available at once; an old set loses the unavailable ones first.
            sets[name] = SetScale(name, wanted, wanted if name == "new" else min(wanted, sets[name].available))
    assert {name: s.replicas for name, s in sets.items() if s.replicas} == ({"new": replicas} if replicas else {})
