"""Patches of the embedded API server work as those of Kubernetes."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.ports import Rejected
from controlplane.embedded.api.patch import merge, strategic

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
keys = st.sampled_from(["a", "b", "conditions", "containers", "tolerations", "x"])
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10
)
objects = st.dictionaries(keys, values, max_size=4)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "text"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_merge_patches_follow_rfc_7386(target: Any, patch: Any, expected: Any) -> None:
    assert merge(target, patch) == expected


@given(objects, objects)
def test_merge_patch_is_idempotent_and_leaves_its_arguments(target: Any, patch: Any) -> None:
    before = copy.deepcopy((target, patch))
    once = merge(target, patch)
    assert merge(once, patch) == once
    assert (target, patch) == before


def test_conditions_merge_by_type_and_foreign_ones_stay() -> None:
    target = {"status": {"conditions": [{"type": "Mine", "status": "False", "reason": "R"}, {"type": "Theirs"}]}}
    patch = {"status": {"conditions": [{"type": "Mine", "status": "True", "reason": None}, {"type": "New"}]}}
    assert strategic(target, patch) == {
        "status": {"conditions": [{"type": "Mine", "status": "True"}, {"type": "Theirs"}, {"type": "New"}]}
    }


def test_nested_lists_merge_by_their_keys() -> None:
    target = {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y"}]}]}
    patch = {"containers": [{"name": "a", "env": [{"name": "X", "value": "2"}]}, {"name": "b", "image": "3"}]}
    assert strategic(target, patch) == {
        "containers": [
            {"name": "a", "image": "1", "env": [{"name": "X", "value": "2"}, {"name": "Y"}]},
            {"name": "b", "image": "3"},
        ]
    }


@pytest.mark.parametrize("field", ["tolerations", "containerStatuses", "args"])
def test_lists_without_merge_key_are_replaced(field: str) -> None:
    assert strategic({field: [{"name": "a"}, {"name": "b"}]}, {field: [{"name": "c"}]}) == {field: [{"name": "c"}]}


def test_an_item_is_deleted_and_a_list_put_in_order_on_demand() -> None:
    target = {"addresses": [{"type": "a", "address": "1"}, {"type": "b"}, {"type": "c"}]}
    assert strategic(target, {"addresses": [{"type": "a", "$patch": "delete"}]}) == {
        "addresses": [{"type": "b"}, {"type": "c"}]
    }
    order = [{"type": "d"}, {"type": "c"}, {"type": "x"}]
    patched = strategic(target, {"$setElementOrder/addresses": order, "addresses": [{"type": "d"}]})
    assert [address["type"] for address in patched["addresses"]] == ["d", "c", "a", "b"]


@pytest.mark.parametrize(
    "patch",
    [
        {"addresses": [{"$patch": "replace"}, {"type": "c"}]},
        {"a": {"$patch": "replace", "d": 3}},
        {"a": {"$patch": "delete"}},
        {"$retainKeys": ["a"], "a": 3},
        {"$deleteFromPrimitiveList/finalizers": ["a"]},
    ],
)
def test_directives_that_no_client_here_sends_are_rejected(patch: Any) -> None:
    with pytest.raises(Rejected):
        strategic({"addresses": [{"type": "a"}], "a": {"b": 1}, "finalizers": ["a"]}, patch)


@pytest.mark.parametrize("patch", [{"conditions": [{"status": "True"}]}, {"conditions": ["x"]}, {"$patch": "explode"}])
def test_a_malformed_strategic_patch_is_rejected(patch: Any) -> None:
    with pytest.raises(Rejected):
        strategic({"conditions": []}, patch)


@given(objects, objects)
def test_a_strategic_patch_is_idempotent_or_rejected(target: Any, patch: Any) -> None:
    try:
        once = strategic(target, patch)
    except Rejected:
        return
    assert strategic(once, patch) == once


def test_fields_that_a_manifest_dropped_are_removed_and_those_of_others_stay() -> None:
    original = {"spec": {"replicas": 2, "selector": {"a": "1", "b": "2"}, "args": ["x", "y"]}, "x": 1, "gone": None}
    modified = {"spec": {"selector": {"a": "3"}, "args": ["z"], "paused": None}}
    current = {
        "spec": {"replicas": 2, "defaulted": True, "selector": {"a": "1", "b": "2", "theirs": "4"}, "paused": True},
        "x": 1,
        "status": {"s": 1},
    }
    assert merge(current, modified, former=original) == {
        "spec": {"defaulted": True, "selector": {"a": "3", "theirs": "4"}, "args": ["z"]},
        "status": {"s": 1},
    }


@given(objects, objects)
def test_applying_the_same_twice_changes_nothing(current: Any, modified: Any) -> None:
    once = merge(current, modified, former={})
    assert merge(once, modified, former=modified) == once


@given(objects, objects, objects)
def test_an_applied_manifest_holds_whatever_was_before(current: Any, modified: Any, former: Any) -> None:
    assert merge(current, modified, former=former) == merge(merge(current, modified, former=former), modified)
