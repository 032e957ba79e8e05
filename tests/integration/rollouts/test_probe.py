"""The checks of a rollout find what is wrong in made-up records."""

import pytest

from tests.integration.rollouts.probe import Handover, Incomplete, gaps, handover
from tests.servers.kubeapi import Json
from tests.watching import Change

OLD, NEW = "biz1:0.0.1", "biz1:0.0.2"


def history(*inside: dict[str, str]) -> dict[str, list[Json]]:
    moments = [
        {"number": number, "at": 10.0 + number, "running": True, "modules": modules, "note": ""}
        for number, modules in enumerate(inside, 1)
    ]
    return {"base-1": moments}


def test_a_handover_without_a_gap() -> None:
    found = gaps(
        history({}, {OLD: "activated"}, {OLD: "activated", NEW: "resolved"}, {OLD: "deactivated", NEW: "activated"}),
        "biz1",
        until=20.0,
    )
    assert found == []


def test_a_gap_of_a_millisecond_is_found() -> None:
    record = history({OLD: "activated"}, {NEW: "resolved"}, {NEW: "activated"})
    record["base-1"][2]["at"] = record["base-1"][1]["at"] + 0.001
    assert gaps(record, "biz1", until=20.0) == [
        "base-1: none of biz1 active for 0.001 s; inside: biz1:0.0.2 resolved",
    ]


@pytest.mark.parametrize("state", ["resolved", "deactivated", "broken"])
def test_a_version_that_is_there_but_not_active_is_a_gap(state: str) -> None:
    assert len(gaps(history({OLD: "activated"}, {OLD: state}, {OLD: "activated"}), "biz1", until=20.0)) == 1


def test_a_gap_at_the_end_lasts_until_the_record_was_read() -> None:
    assert gaps(history({OLD: "activated"}, {}), "biz1", until=15.0) == [
        "base-1: none of biz1 active for 3.000 s; inside: nothing",
    ]


def test_a_restart_and_another_module_are_no_cover() -> None:
    assert len(gaps(history({OLD: "activated"}, {"biz2:1": "activated"}, {OLD: "activated"}), "biz1", until=20.0)) == 1


def test_a_base_that_never_had_the_module_is_named() -> None:
    assert gaps(history({}), "biz1", until=20.0) == ["base-1: biz1 was never active"]


def test_a_record_that_was_cut_proves_nothing() -> None:
    record = history({OLD: "activated"}, {}, {OLD: "activated"})
    with pytest.raises(Incomplete):
        gaps({"base-1": record["base-1"][2:]}, "biz1", until=20.0)
    del record["base-1"][1]
    with pytest.raises(Incomplete):
        gaps(record, "biz1", until=20.0)


def pod(name: str, *, ready: bool, reason: str = "", kind: str = "MODIFIED", deleting: bool = False) -> Change:
    state = {"running": {}} if ready else {"waiting": {"reason": reason}}
    obj: Json = {
        "metadata": {"name": name, **({"deletionTimestamp": "now"} if deleting else {})},
        "spec": {"nodeName": "vnode.base-1.dev"},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"state": state}],
        },
    }
    return Change(0.0, 0.0, kind, obj)


def test_the_old_pod_gives_way_first() -> None:
    assert handover(
        [
            pod("old", ready=True),
            pod("new", ready=False, reason="Pending"),
            pod("old", ready=False, reason="Superseded"),
            pod("new", ready=True),
            pod("old", ready=False, reason="Superseded", deleting=True),
            pod("old", ready=False, reason="Superseded", kind="DELETED"),
        ]
    ) == Handover(supersessions=1)


def test_a_new_pod_that_is_ready_too_early_is_named() -> None:
    result = handover([pod("old", ready=True), pod("new", ready=True), pod("old", ready=False, reason="Superseded")])
    assert result.complaints == ["vnode.base-1.dev: new turned Ready while old was"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (pod("old", ready=False, reason="Broken"), "old turned not Ready for the reason 'Broken'"),
        (pod("old", ready=True, kind="DELETED"), "old was removed while it was Ready"),
        (pod("old", ready=False, reason="Superseded", deleting=True), "old was removed while it was Ready"),
    ],
)
def test_a_pod_that_goes_without_being_superseded_is_named(change: Change, complaint: str) -> None:
    assert handover([pod("old", ready=True), change]).complaints == [f"vnode.base-1.dev: {complaint}"]
