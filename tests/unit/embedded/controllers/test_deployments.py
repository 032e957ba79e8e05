"""The steps of a rollout keep the bounds of its strategy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.embedded.controllers.deployments import next_step
from controlplane.embedded.controllers.mirror import pod_view
from controlplane.embedded.controllers.replicas import Counts, bounds, template_hash


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [("25%", "25%", 1, (1, 0)), ("25%", "25%", 10, (3, 2)), (0, "10%", 3, (0, 1)), (2, 0, 3, (2, 0))],
)
def test_percentages_round_for_more_availability(
    surge: object, unavailable: object, replicas: int, expected: tuple[int, int]
) -> None:
    assert bounds({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}, replicas) == expected


def test_the_hash_distinguishes_templates_and_ignores_the_order_of_keys() -> None:
    assert template_hash({"a": 1, "b": 2}) == template_hash({"b": 2, "a": 1}) != template_hash({"a": 1, "b": 3})


def pods(name: str, count: int, available: int) -> Counts:
    """Return count active Pods; the first of them are available."""
    made = []
    for number in range(count):
        metadata = {"namespace": "d", "name": f"{name}{number}", "uid": f"{name}{number}", "creationTimestamp": ""}
        ready = [{"type": "Ready", "status": "True"}] if number < available else []
        obj = {"metadata": metadata, "spec": {"nodeName": f"n{number}"}, "status": {"conditions": ready}}
        made.append(pod_view(obj))
    return Counts(tuple(made), frozenset(pod.uid for pod in made[:available]))


def step(replicas: int, surge: int, unavailable: int, new: Counts, old: Counts) -> tuple[int, list[str]]:
    create, delete = next_step(replicas, surge, unavailable, new, old)
    return create, sorted(pod.uid for pod in delete)


def test_a_new_module_is_installed_before_the_old_one_goes() -> None:
    old = pods("old", 1, 1)
    assert step(1, 1, 0, pods("new", 0, 0), old) == (1, [])
    assert step(1, 1, 0, pods("new", 1, 0), old) == (0, [])
    assert step(1, 1, 0, pods("new", 1, 1), old) == (0, ["old0"])


def test_pods_that_are_not_available_go_first() -> None:
    old = pods("old", 4, 2)
    assert step(4, 0, 1, pods("new", 0, 0), old) in ((0, ["old2"]), (0, ["old3"]))
    # Two of four may be missing, and two are.
    assert step(4, 0, 2, pods("new", 0, 0), old) == (0, ["old2", "old3"])


def test_scaling_follows_the_newest_number_of_replicas() -> None:
    assert step(5, 1, 1, pods("new", 2, 2), pods("old", 0, 0)) == (3, [])
    assert step(1, 1, 1, pods("new", 3, 1), pods("old", 0, 0)) == (0, ["new1", "new2"])


some = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda pair: (pair[0], min(pair)))


@given(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3), some, some)
def test_every_step_keeps_the_bounds(
    replicas: int, surge: int, unavailable: int, new: tuple[int, int], old: tuple[int, int]
) -> None:
    if not surge and not unavailable:
        unavailable = 1
    before = {"new": pods("new", *new), "old": pods("old", *old)}
    create, delete = next_step(replicas, surge, unavailable, before["new"], before["old"])
    total = new[0] + old[0]
    assert total + create - len(delete) <= max(total, replicas + surge)
    assert len({pod.uid for pod in delete}) == len(delete)
    if any(pod in before["new"].active for pod in delete):
        assert (create, len(delete)) == (0, new[0] - replicas)
        return  # those of the new template alone follow spec.replicas, also downwards
    gone = sum(before["old"].is_available(pod) for pod in delete)
    assert new[1] + old[1] - gone >= min(new[1] + old[1], replicas - unavailable)


@given(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2), some)
def test_a_rollout_ends_with_the_new_template_alone(
    replicas: int, surge: int, unavailable: int, old: tuple[int, int]
) -> None:
    if not surge and not unavailable:
        surge = 1
    new, left = 0, pods("old", *old)
    for _ in range(60):
        # Pods of the new template become available at once.
        create, delete = next_step(replicas, surge, unavailable, pods("new", new, new), left)
        if not create and not delete:
            break
        new += create - sum(pod.uid.startswith("new") for pod in delete)
        kept = tuple(pod for pod in left.active if pod not in delete)
        left = Counts(kept, frozenset(pod.uid for pod in kept if left.is_available(pod)))
    assert (new, left.active) == (replicas, ())
