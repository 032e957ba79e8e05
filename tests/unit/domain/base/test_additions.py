"""What others put on a Node is kept, and comes back; what is ours, or Kubernetes' own, is neither."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import contract
from controlplane.domain.base import additions, vnode
from controlplane.domain.base.additions import Additions
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Node, Taint
from tests.unit.domain.base.test_vnode import PROFILE, spec

OWNED = Taint("team", "a", "NoSchedule")
ADDED = Additions(
    labels={"rack": "r1", "example.com/zone": "z"},
    annotations={"example.com/note": "text"},
    taints=(OWNED,),
    unschedulable=True,
    host="shop-0",
)


def test_nothing_that_we_write_is_an_addition() -> None:
    policies = [vnode.NodePolicy(hostname=hostname, provider_id=True) for hostname in vnode.HostnameLabel]
    assert not any(additions.of(spec(policy=policy)) for policy in policies)


def test_what_a_base_does_not_report_any_more_is_none() -> None:
    before, now = spec(), spec(replace(PROFILE, version=""))
    assert not additions.of(replace(now, labels={**before.labels, **now.labels}))


def test_what_others_put_on_a_node_is_found_and_comes_back() -> None:
    node = additions.onto(spec(), ADDED)
    assert additions.of(node) == ADDED
    assert {"rack": "r1", "base.koupleless.io/name": "shop"}.items() <= node.labels.items()
    assert node.unschedulable


@pytest.mark.parametrize(
    "taint",
    [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/out-of-service",
        "node.cloudprovider.kubernetes.io/shutdown",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
    ],
)
def test_what_controllers_set_by_themselves_is_left_to_them(taint: str) -> None:
    node = replace(
        spec(),
        labels={**spec().labels, "beta.kubernetes.io/os": "linux"},
        annotations={
            "node.alpha.kubernetes.io/ttl": "0",
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            contract.ANNOTATION_OWNED_MODULES: "{}",
        },
        taints=(*spec().taints, Taint(taint, "", "NoSchedule")),
    )
    assert not additions.of(node)


def test_what_a_node_has_itself_goes_before() -> None:
    node = Node("n", labels={"rack": "new"}, taints=(Taint("team", "b", "NoSchedule"),))
    again = additions.onto(node, ADDED)
    assert again.labels["rack"] == "new"
    assert again.taints == node.taints


def test_an_address_that_another_host_has_now_is_another_base() -> None:
    assert ADDED.belong_to(BaseId("10.0.0.7"), "shop-0")
    assert not ADDED.belong_to(BaseId("10.0.0.7"), "shop-1")
    assert ADDED.belong_to(BaseId("b1"), "shop-1")


def test_what_has_no_room_is_left_out_and_named_and_what_keeps_pods_away_stays() -> None:
    large = replace(ADDED, annotations={f"a{number}": "x" * 1000 for number in range(20)})
    text, left_out = additions.record(large)
    assert left_out == ("annotations",)
    assert len(text) <= additions.LIMIT
    assert additions.recorded(text) == replace(large, annotations={})


def test_no_additions_are_no_record() -> None:
    assert additions.record(Additions(host="shop-0")) == (additions.NOTHING, ())


KEYS = st.from_regex(r"([a-z]{1,5}\.[a-z]{1,5}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,10}[A-Za-z0-9])?", fullmatch=True)
VALUES = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,10}[A-Za-z0-9])?)?", fullmatch=True)
EFFECTS = st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])


@given(
    st.builds(
        Additions,
        labels=st.dictionaries(KEYS, VALUES, max_size=3),
        annotations=st.dictionaries(KEYS, st.text(max_size=20), max_size=3),
        taints=st.lists(
            st.builds(Taint, KEYS, VALUES, EFFECTS), max_size=3, unique_by=lambda taint: (taint.key, taint.effect)
        ).map(tuple),
        unschedulable=st.booleans(),
        host=st.text(max_size=5),
    ).filter(bool)
)
def test_a_record_is_read_back(added: Additions) -> None:
    assert additions.recorded(additions.record(added)[0]) == added


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "[" * 5000,
        '{"labels": 1, "annotations": [], "taints": {}, "unschedulable": "yes", "host": 5}',
        '{"labels": {"a b": "c", "a": "c d", "b": 1, "": "x", "a/b/c": "x"}}',
        '{"taints": [["k", "v"], ["k", "v", "Sometimes"], ["k ", "v", "NoExecute"], {"key": "k"}, 1, [1, 2, 3]]}',
        '{"labels": {"a": "' + "b" * additions.LIMIT + '"}}',
    ],
)
def test_what_no_node_can_have_is_not_read(text: str) -> None:
    assert not additions.recorded(text)


@given(st.binary(max_size=200))
def test_any_text_is_read_or_is_nothing(data: bytes) -> None:
    found = additions.recorded(data.decode(errors="replace"))
    assert additions.recorded(additions.record(found)[0]) == found or not found
