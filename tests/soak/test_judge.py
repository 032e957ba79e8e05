"""The checks of the soak find what is wrong in made-up records."""

import math

import pytest

from tests.servers.kubeapi import Json
from tests.soak import judge
from tests.soak.judge import Down
from tests.watching import Change

NODE = "vnode.b1.dev"


def pod(name: str, module: str, *, node: str = NODE, ready: bool = True, **metadata: str) -> Json:
    return {
        "metadata": {"name": name, **metadata},
        "spec": {
            "nodeName": node,
            "containers": [{"name": module, "env": [{"name": "BIZ_VERSION", "value": "1"}]}],
        },
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"state": {"waiting": {"reason": "Broken"}}}],
        },
    }


def test_cluster_and_bases_that_agree_differ_in_nothing() -> None:
    pods = [pod("p1", "biz1"), pod("p2", "biz1"), pod("p3", "biz2")]
    assert judge.disagreements(pods, {NODE: {"biz1:1": "activated", "biz2:1": "activated"}, "vnode.b2.dev": {}}) == []


@pytest.mark.parametrize(
    ("pods", "inside", "complaint"),
    [
        ([pod("p", "biz1")], {}, f"biz1:1 is not on {NODE}"),
        ([pod("p", "biz1")], {"biz1:1": "broken"}, f"biz1:1 on {NODE} is broken"),
        ([], {"biz1:1": "activated"}, f"biz1:1 on {NODE} has no Pod"),
        (
            [pod("p", "biz1", ready=False)],
            {"biz1:1": "activated"},
            f"Pod p on {NODE} is not Ready: [{{'reason': 'Broken'}}]",
        ),
        (
            [pod("p", "biz1", deletionTimestamp="now")],
            {"biz1:1": "activated"},
            "Pod p is still being deleted",
        ),
        ([pod("p", "biz1", node="other")], {}, "Pod p is on other, which is none of the bases"),
    ],
)
def test_a_difference_is_named(pods: list[Json], inside: dict[str, str], complaint: str) -> None:
    assert judge.disagreements(pods, {NODE: inside}) == [complaint]


def test_a_pod_that_vanished_is_named_unless_its_node_was_removed() -> None:
    wanted = {"p1": NODE, "p2": "vnode.b2.dev", "p3": NODE}
    assert judge.missing(wanted, [pod("p3", "biz1")], ["vnode.b2.dev"]) == [f"Pod p1 on {NODE} is gone"]


def moment(number: int, note: str = "", **modules: str) -> Json:
    return {"number": number, "at": float(number), "running": True, "modules": modules, "note": note}


@pytest.mark.parametrize(
    ("note", "state", "double"),
    [
        ("installBiz biz1:1 refused: installBiz under way", "resolved", True),
        ("batchInstallBiz null:null refused: batchInstallBiz under way", "resolved", True),
        ("installBiz biz1:1: REPEAT_BIZ", "resolved", True),
        ("installBiz biz1:1: REPEAT_BIZ", "activated", False),
        ("uninstallBiz biz1:1 refused: installBiz under way", "resolved", False),
        ("installBiz biz1:1 refused: uninstallBiz under way", "activated", False),
    ],
)
def test_an_install_during_an_install_is_named(note: str, state: str, double: bool) -> None:
    history = {"b1": [moment(1), {**moment(2, note), "modules": {"biz1:1": state}}]}
    assert judge.double_installs(history) == ([f"b1 at 2.000: {note}"] if double else [])


def test_a_history_that_was_cut_proves_nothing() -> None:
    assert judge.double_installs({"b1": [moment(2)]}) == ["b1: moments of its history are missing"]


def test_installs_of_what_was_there_are_counted() -> None:
    assert judge.repeats({"b1": [moment(1), moment(2, "installBiz biz1:1: REPEAT_BIZ")]}) == [
        "b1 at 2.000: installBiz biz1:1: REPEAT_BIZ"
    ]


def removal(at: float, since: float | None = None) -> Change:
    return Change(at if since is None else since, at, "DELETED", {"metadata": {"name": NODE}})


@pytest.mark.parametrize(
    ("down", "allowed"),
    [
        ([], False),
        ([Down(100.0, announced=True, end=130.0)], True),
        ([Down(60.0, announced=False)], False),
        ([Down(30.0, announced=False)], True),
        ([Down(30.0, announced=False, end=95.0)], False),
        ([Down(30.0, announced=False, end=105.0)], True),
    ],
)
def test_a_node_may_go_only_when_its_base_is_away_for_long_or_said_so(down: list[Down], allowed: bool) -> None:
    found = judge.removed_alive([removal(100.0)], {NODE: down})
    assert (found == []) is allowed


def test_a_removal_that_was_seen_late_counts_from_its_earliest_time() -> None:
    down = {NODE: [Down(30.0, announced=False, end=95.0)]}
    assert judge.removed_alive([removal(110.0, since=90.0)], down) == []
    assert judge.removed_alive([removal(110.0, since=99.0)], down) != []


def test_other_changes_of_a_node_are_no_removal() -> None:
    assert judge.removed_alive([Change(1.0, 1.0, "MODIFIED", {"metadata": {"name": NODE}})], {}) == []
    assert Down(1.0, announced=False).end == math.inf


def test_defects_in_logs_are_named() -> None:
    assert judge.defects({"gateway": ["fine", "Traceback (most recent call last):"]}) == [
        "gateway: Traceback (most recent call last):"
    ]
    assert judge.defects({"gateway": [judge.GRPC_ABORT, "Traceback (most recent call last):"]}) == []
    assert len(judge.defects({"gateway": ["defect while polling a base"]})) == 1
