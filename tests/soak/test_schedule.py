"""Schedules of the soak can be repeated, and their steps fit together."""

from collections import defaultdict

import pytest

from tests.soak.schedule import BASE_FAULTS, SHARED_FAULTS, chaos, users

GROUPS = {"g1": ["g1-1", "g1-2"], "g2": ["g2-1", "g2-2"]}
BASES = [base for bases in GROUPS.values() for base in bases]
SEEDS = range(1, 40)


def test_the_same_seed_gives_the_same_steps_and_another_gives_others() -> None:
    assert users(7, 100, BASES).steps == users(7, 100, BASES).steps != users(8, 100, BASES).steps
    assert chaos(7, 100, GROUPS) == chaos(7, 100, GROUPS) != chaos(8, 100, GROUPS)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_ends_and_a_thing_has_one_at_a_time(seed: int) -> None:
    broken: dict[str, str] = {}
    for step in chaos(seed, 600, GROUPS):
        concerned = [step.whom, *GROUPS.get(step.whom, ())]
        if step.what == "heal":
            assert all(broken.pop(thing) == step.how for thing in concerned)
        else:
            assert not any(thing in broken for thing in concerned)
            if step.what != "restart":
                broken |= dict.fromkeys(concerned, step.what)
    assert broken == {}


def test_everything_that_can_be_done_is_done() -> None:
    done: dict[str, set[str]] = defaultdict(set)
    for seed in SEEDS:
        for step in chaos(seed, 600, GROUPS):
            done[step.what].add(step.whom)
        for step in users(seed, 600, BASES).steps:
            done["users"].add(step.what)
    assert done["users"] == {
        "create", "delete", "force-delete", "change", "deploy", "scale", "update", "undeploy",
    }  # fmt: skip
    for what in BASE_FAULTS:
        assert done[what] >= set(BASES)
    for what, whom in SHARED_FAULTS:
        assert done[what] >= (set(GROUPS) if whom == "bases" else {whom})


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_wanted_in_the_end_is_what_was_created_and_not_deleted(seed: int) -> None:
    work = users(seed, 600, BASES)
    there: set[str] = set()
    for step in work.steps:
        if step.what == "create":
            assert step.whom not in there
            there.add(step.whom)
        elif step.what in ("delete", "force-delete"):
            there.remove(step.whom)
        elif step.what == "change":
            assert step.whom in there
    assert there == set(work.pods)
