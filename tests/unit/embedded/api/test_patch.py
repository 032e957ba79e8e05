from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.ports import Rejected
from controlplane.embedded.api.patch import merge, strategic, three_way

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
def test_merge_patch_as_in_rfc_7386(target: Any, patch: Any, expected: Any) -> None:
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


def test_delete_and_replace_directives() -> None:
    taints = {"taints": [{"key": "a", "value": "1"}, {"key": "b"}]}
    assert strategic(taints, {"taints": [{"key": "a", "$patch": "delete"}]}) == {"taints": [{"key": "b"}]}
    assert strategic(taints, {"taints": [{"$patch": "replace"}, {"key": "c"}]}) == {"taints": [{"key": "c"}]}
    assert strategic({"a": {"b": 1, "c": 2}}, {"a": {"$patch": "replace", "d": 3}}) == {"a": {"d": 3}}
    assert strategic({"a": {"b": 1}}, {"a": {"$patch": "delete"}}) == {}
    assert strategic({"a": 1, "b": 2}, {"$retainKeys": ["a"], "a": 3}) == {"a": 3}
    assert strategic({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}) == {"finalizers": ["a", "b"]}
    assert strategic({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}) == {
        "finalizers": ["b"]
    }


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


def test_three_way_removes_only_what_the_manifest_had() -> None:
    original = {"spec": {"replicas": 2, "containers": [{"name": "a", "image": "1"}, {"name": "gone"}]}, "x": 1}
    modified = {"spec": {"containers": [{"name": "a", "image": "2"}]}}
    current = {
        "spec": {
            "replicas": 2,
            "defaulted": True,
            "containers": [{"name": "a", "image": "1", "policy": "d"}, {"name": "gone"}, {"name": "injected"}],
        },
        "x": 1,
        "status": {"s": 1},
    }
    assert three_way(original, modified, current) == {
        "spec": {"defaulted": True, "containers": [{"name": "a", "image": "2", "policy": "d"}, {"name": "injected"}]},
        "status": {"s": 1},
    }


@given(objects, objects)
def test_applying_the_same_twice_changes_nothing(current: Any, modified: Any) -> None:
    once = three_way({}, modified, current)
    assert three_way(modified, modified, once) == once
