from __future__ import annotations

import pytest

from controlplane.app.ports import Rejected
from controlplane.domain.workloads.placement import matches
from controlplane.embedded.api.selectors import expressions, fields_match, label_selector, parse_fields, parse_labels


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a in (1, 2),b", {"a": "2", "b": ""}, True),
        ("a notin (1,2)", {"a": "3"}, True),
        ("a notin (1,2)", {"a": "1"}, False),
        ("!a", {"a": ""}, False),
        ("example.com/a-b=c,!d", {"example.com/a-b": "c"}, True),
    ],
)
def test_label_selectors(text: str, labels: dict[str, str], expected: bool) -> None:
    assert matches(parse_labels(text), labels) is expected


@pytest.mark.parametrize("text", ["a=b=c", "a in 1", "=", "a in (1", ","])
def test_malformed_label_selectors_are_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        parse_labels(text)


def test_label_selector_objects() -> None:
    assert label_selector(None) is None
    assert label_selector({}) == ()
    selector = label_selector({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]})
    assert selector is not None
    assert matches(selector, {"a": "1", "b": "x"})
    assert not matches(selector, {"a": "1"})


@pytest.mark.parametrize("items", [["text"], [{}], [{"key": "a", "operator": "Like", "values": ["b"]}], [None]])
def test_what_is_no_expression_is_never_met(items: object) -> None:
    assert not matches(expressions(items), {"a": "b", "": ""})


def test_field_selectors() -> None:
    terms = parse_fields("spec.nodeName=n1, status.phase!=Failed", ("spec.nodeName", "status.phase"))
    assert fields_match(terms, {"spec.nodeName": "n1", "status.phase": "Running"})
    assert not fields_match(terms, {"spec.nodeName": "n1", "status.phase": "Failed"})
    assert fields_match(parse_fields("spec.nodeName=", ("spec.nodeName",)), {})
    for text in ("spec.image=x", "spec.nodeName>1"):
        with pytest.raises(Rejected):
            parse_fields(text, ("spec.nodeName",))
