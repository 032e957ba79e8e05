"""mctl reads manifests: values, the line of each field, and what it refuses."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mctl import manifests
from mctl.errors import UsageError
from mctl.manifests import Manifest, parse, read
from service import yamltree
from service.yamltree import BadValue, convert, line_of

POD = """\
# a comment
apiVersion: v1
kind: Pod
metadata:
  name: biz1
  labels:
    virtual-kubelet.koupleless.io/component: module
spec:
  containers:
    - name: biz1
      image: a.jar
    - {name: biz2, image: b.jar}
"""


def problems(text: str | bytes) -> list[str]:
    outcomes = list(parse("f", text if isinstance(text, bytes) else text.encode()))
    assert outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, str)]


def objects(text: str) -> list[Manifest]:
    outcomes = list(parse("f", text.encode()))
    return [outcome for outcome in outcomes if isinstance(outcome, Manifest)]


def pod() -> Manifest:
    (manifest,) = objects(POD)
    return manifest


def value(text: str) -> Any:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    return convert(node)


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("", 2),
        ("kind", 3),
        ("metadata.name", 5),
        ("metadata.labels[virtual-kubelet.koupleless.io/component]", 7),
        ("metadata.labels.virtual-kubelet.koupleless.io/component", 7),
        ("spec.containers[0].image", 11),
        ("spec.containers[1].image", 12),
        ("spec.containers[0].env[3].value", 10),
        ("spec.containers[9].image", 9),
        ("spec.containers[99999999999999999999].image", 9),
        ("spec.nodeName", 8),
        ("status.phase", 2),
        ("]][[..", 2),
    ],
)
def test_fields_have_lines(field: str, line: int) -> None:
    assert line_of(pod().node, field) == line


def test_ref_defaults_the_namespace_of_namespaced_kinds() -> None:
    assert pod().ref().namespace == "default"
    assert pod().in_namespace("other").ref().namespace == "other"
    (node,) = objects("{apiVersion: v1, kind: Node, metadata: {name: n}}")
    assert node.in_namespace("other").ref().namespace == ""


def test_a_list_is_its_items() -> None:
    text = f"kind: List\napiVersion: v1\nitems:\n- {json.dumps(pod().value)}\n- kind: Pod\n"
    assert problems(text) == ["f:5: apiVersion: required", "f:5: metadata: required, a mapping with a name"]
    assert [m.value for m in objects(text.rsplit("- ", 1)[0])] == [pod().value]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1, 2", "f:2:1: YAML syntax: did not find expected ',' or ']'"),
        ("a: 1\nb: 2: 3\n", "f:2:5: YAML syntax: mapping values are not allowed in this context"),
        ("a: *x\n", "f:1:4: YAML syntax: found undefined alias"),
        ("a: 1\nb: \x00\n", "f:2: YAML syntax: the character U+0000 is not allowed"),
        (b"a: 1\nb: \xff\n", "f:2: not UTF-8 text (byte 0xff)"),
        (b"a: \xed\xb3\xbf\n", "f:1: not UTF-8 text (byte 0xed)"),
        ("a:\n  b: 1\n  b: 2\n", "f:3: a.b: is there twice"),
        ("a: {b: 1, 'b': 2}", "f:1: a.b: is there twice"),
        ("a:\n  ? [1]\n  : 2", "f:2: a: a key must be a text"),
        ("a: !!python/object:os.system x", "f:1: a: the YAML tag python/object:os.system is not supported"),
        ("a: !!set {b}", "f:1: a: the YAML tag tag:yaml.org,2002:set is not supported"),
        ("a: !!int x", "f:1: a: is no valid int: put it in quotes if it is a text"),
        ("a: !!int ''", "f:1: a: is no valid int: put it in quotes if it is a text"),
        ("a: .nan", "f:1: a: must be a finite number"),
        ("a: 99999999999999999999", "f:1: a: is no 64-bit number: put it in quotes if it is a text"),
        ("a: &x [*x]", "f:1: a" + "[0]" * yamltree.MAX_DEPTH + ": nested deeper than 64 levels"),
        ("a: {<<: 3}", "f:1: a: << takes a mapping or a list of mappings"),
        ("- 1", "f:1: an object is a mapping with apiVersion, kind and metadata"),
        ("[" * 5000, "f:1: nested too deeply"),
    ],
)
def test_every_problem_names_its_place(text: str | bytes, line: str) -> None:
    assert problems(text) == [line]


def test_names_must_be_texts() -> None:
    text = "apiVersion: v1\nkind: 1\nmetadata:\n  name: a b\n"
    assert problems(text) == [
        "f:2: kind: must be a text, not 1: put it in quotes",
        "f:4: metadata.name: must not have spaces",
    ]


def test_alias_bombs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more than 100000 values" in problems("\n".join(lines))[0]


def test_size_and_documents_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert problems(b"#" * (manifests.MAX_BYTES + 1)) == ["f: larger than 1048576 bytes: apply it in parts"]
    monkeypatch.setattr(manifests, "MAX_DOCUMENTS", 2)
    assert problems(f"{POD}---\n" * 3) == ["f: more than 2 documents: apply them in parts"]
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(f"{POD}---\n{POD}")
    with pytest.raises(UsageError, match="more than 2 objects"):
        read([str(tmp_path)])


def test_all_files_are_read_before_any_problem_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: 1")
    (tmp_path / "b.yml").write_text("- x")
    with pytest.raises(UsageError) as caught:
        read([str(tmp_path)])
    assert {Path(line.split(":")[0]).name for line in caught.value.lines} == {"a.yaml", "b.yml"}


def test_absent_files_and_empty_input_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: cannot be read: No such file"):
        read([str(tmp_path / "none.yaml")])
    with pytest.raises(UsageError, match="no objects found"):
        read([str(tmp_path)])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"---\n# nothing\n")))
    with pytest.raises(UsageError, match="-: no objects found"):
        read(["-"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: 2024-01-01, b: 12:30, c: 1:30.5}", {"a": "2024-01-01", "b": "12:30", "c": "1:30.5"}),
        (
            "{a: 0.0.1, b: 1, c: 1.5, d: true, e: null, f: '1'}",
            {"a": "0.0.1", "b": 1, "c": 1.5, "d": True, "e": None, "f": "1"},
        ),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
        ("{x: &x {a: 1, b: 2}, y: {<<: *x, b: 3}}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
        ("y: {<<: [{a: 1}, {a: 2, b: 2}]}", {"y": {"a": 1, "b": 2}}),
    ],
)
def test_values_are_those_of_json(text: str, expected: Any) -> None:
    assert value(text) == expected


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts
trees = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(tree=trees)
def test_what_yaml_writes_is_read_back(tree: Any) -> None:
    assert value(yaml.safe_dump(tree)) == tree


@given(data=st.binary(max_size=200) | st.text(alphabet="a:-[]{}&*!<>'\"| \n\t#?0.,~", max_size=80).map(str.encode))
def test_no_input_breaks_the_reader(data: bytes) -> None:
    for outcome in parse("f", data):
        if isinstance(outcome, str):
            assert outcome.startswith("f:")
        else:
            json.dumps(outcome.value, allow_nan=False)


@given(field=st.text(alphabet="aspeclontinrmd.[]019/", max_size=40))
def test_every_field_has_a_line(field: str) -> None:
    assert 1 <= line_of(pod().node, field) <= POD.count("\n")


def test_bad_value_names_field_and_line() -> None:
    with pytest.raises(BadValue) as caught:
        value("a:\n- b\n- .inf\n")
    assert (caught.value.field, caught.value.line) == ("a[1]", 3)
