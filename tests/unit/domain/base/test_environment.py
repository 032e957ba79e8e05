"""Variables and arguments follow the rules of Kubernetes for references, order and escapes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base import environment
from controlplane.domain.base.environment import (
    Env,
    Facts,
    Place,
    annotation_of,
    expand,
    facts_of,
    is_known_field,
    is_known_resource,
    resolve,
    too_long,
    variables,
    version,
)
from controlplane.domain.contract import ANNOTATION_VERSION
from controlplane.domain.objects import Container, FieldRef, PodStatus, ResourceRef
from tests.unit.domain.base.pods import pod

POD = replace(
    pod("p"),
    labels={"tier": "gold", "example.com/it's": "odd"},
    annotations={"example.com/note": "hello"},
    service_account="shop",
    status=PodStatus(pod_ip="10.9.9.9"),
)
FACTS = facts_of(POD, Place("10.0.0.7", "190Mi"))
TEMPLATE = Facts("default", POD.labels, POD.annotations, "shop")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain $ text$", "plain $ text$"),
        ("$(A)", "a"),
        ("x$(A)y$(B)z", "xaybz"),
        ("$(NOBODY)", "$(NOBODY)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$A ${A} $[A]", "$A ${A} $[A]"),
        ("$(A", "$(A"),
        ("$(", "$("),
        ("$()", "$()"),
        ("$(EMPTY)", ""),
        ("$(C)", "$(A)"),
        ("$($(A)", "$($(A)"),
        ("--url=http://$(A):$(B)/", "--url=http://a:b/"),
    ],
)
def test_references_are_expanded(text: str, expected: str) -> None:
    # A value is not expanded again: that of C looks like a reference.
    assert expand(text, {"A": "a", "B": "b", "C": "$(A)", "EMPTY": ""}) == expected


@given(st.text(alphabet="$()AB", max_size=12))
def test_without_values_only_escapes_change(text: str) -> None:
    expanded = expand(text, {})
    assert expanded is not None
    assert "$$" in text or expanded == text


def test_a_reference_to_an_unknown_value_makes_the_text_unknown() -> None:
    assert expand("a $(A) $(B)", {"A": "a", "B": None}) is None


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ([("A", "1"), ("B", "$(A)2")], {"A": "1", "B": "12"}),
        ([("B", "$(A)2"), ("A", "1")], {"B": "$(A)2", "A": "1"}),
        ([("A", "1"), ("A", "$(A)2")], {"A": "12"}),
        ([("A", "$$(X)"), ("B", "$(A)")], {"A": "$(X)", "B": "$(X)"}),
        ([("A", "$(A)")], {"A": "$(A)"}),
        ([("my.name-x", "1"), ("B", "$(my.name-x)")], {"my.name-x": "1", "B": "1"}),
    ],
    ids=["earlier", "later", "the last counts", "escaped", "itself", "no identifier"],
)
def test_variables_come_in_their_order(env: Env, expected: dict[str, str]) -> None:
    assert variables(env, FACTS) == expected


@pytest.mark.parametrize(
    ("path", "value", "of_a_template"),
    [
        ("metadata.name", "p", None),
        ("metadata.uid", "uid-p", None),
        ("metadata.namespace", "default", "default"),
        ("metadata.labels['tier']", "gold", "gold"),
        ("metadata.labels['absent']", "", ""),
        ("metadata.labels['example.com/it's']", "odd", "odd"),
        ("metadata.annotations['example.com/note']", "hello", "hello"),
        ("spec.nodeName", "vnode.b1.dev", None),
        ("spec.serviceAccountName", "shop", "shop"),
        ("status.hostIP", "10.0.0.7", None),
        ("status.hostIPs", "10.0.0.7", None),
        ("status.podIP", "10.0.0.7", None),
        ("status.podIPs", "10.0.0.7", None),
    ],
)
def test_fields_of_the_pod_are_resolved(path: str, value: str, of_a_template: str | None) -> None:
    assert is_known_field(path)
    assert variables([("V", FieldRef(path))], FACTS) == {"V": value}
    assert variables([("V", FieldRef(path))], TEMPLATE) == {"V": of_a_template}


@pytest.mark.parametrize(
    "path", ["", "metadata.labels", "metadata.annotations", "spec.hostname", "status.phase", "metadata.name['x']"]
)
def test_other_fields_are_not_known(path: str) -> None:
    assert not is_known_field(path)
    assert variables([("V", FieldRef(path))], FACTS) == {"V": None}


def test_a_base_without_an_address_leaves_the_pods_own() -> None:
    assert variables([("V", FieldRef("status.podIP"))], facts_of(POD)) == {"V": "10.9.9.9"}


@pytest.mark.parametrize(
    ("resource", "divisor", "quantity", "value"),
    [
        ("limits.cpu", "", "250m", "1"),
        ("limits.cpu", "0", "1500m", "2"),
        ("limits.cpu", "1m", "250m", "250"),
        ("limits.cpu", "1m", "", "0"),
        ("requests.cpu", "1", "2", "2"),
        ("limits.memory", "", "64Mi", "67108864"),
        ("limits.memory", "1Mi", "64Mi", "64"),
        ("limits.memory", "1Mi", "65M", "62"),
        ("limits.memory", "1Mi", "", "190"),
        ("limits.memory", "1Mi", "0", "190"),
        ("requests.memory", "1Mi", "", "0"),
        ("requests.ephemeral-storage", "1k", "1500", "2"),
        ("limits.hugepages-2Mi", "1Mi", "4Mi", "4"),
        ("limits.memory", "nonsense", "nonsense", "199229440"),
    ],
)
def test_resources_of_the_container_are_resolved(resource: str, divisor: str, quantity: str, value: str) -> None:
    assert is_known_resource(resource)
    assert variables([("V", ResourceRef(resource, divisor, quantity))], FACTS) == {"V": value}


def test_a_base_without_a_limit_gives_no_memory_figure() -> None:
    unlimited = ResourceRef("limits.memory", "", "")
    assert variables([("V", unlimited)], facts_of(POD, Place("10.0.0.7"))) == {"V": "0"}
    assert variables([("V", unlimited)], TEMPLATE) == {"V": None}


@pytest.mark.parametrize("name", ["", "limits", "limits.", "cpu", "limits.gpu", "usage.cpu", "limits.hugepages-"])
def test_other_resources_are_not_known(name: str) -> None:
    assert not is_known_resource(name)


@pytest.mark.parametrize(
    ("env", "of_a_pod", "of_a_template"),
    [
        ([("BIZ_VERSION", "1.0")], "1.0", "1.0"),
        ([("BIZ_VERSION", FieldRef("metadata.labels['tier']"))], "gold", "gold"),
        ([("N", "1"), ("BIZ_VERSION", "$(N).0")], "1.0", "1.0"),
        ([("N", FieldRef("metadata.name")), ("BIZ_VERSION", "1-$(N)")], "1-p", ""),
        ([("BIZ_VERSION", "1.0"), ("BIZ_VERSION", "2.0")], "2.0", "2.0"),
        ([("OTHER", "1.0")], "", ""),
    ],
)
def test_the_version_is_resolved_like_any_variable(env: Env, of_a_pod: str, of_a_template: str) -> None:
    assert version("a", "u", env, FACTS) == of_a_pod
    assert version("a", "u", env, TEMPLATE) == of_a_template


SAID = "https://repo.example/a-3.0.jar#bizVersion=2.0"


@pytest.mark.parametrize(
    ("image", "annotations", "env", "expected"),
    [
        (SAID, {ANNOTATION_VERSION: "1.0"}, [("BIZ_VERSION", "0.0")], "0.0"),
        (SAID, {ANNOTATION_VERSION: "1.0"}, [("BIZ_VERSION", "")], ""),
        (SAID, {ANNOTATION_VERSION: "1.0"}, [("OTHER", "0.0")], "1.0"),
        (SAID, {ANNOTATION_VERSION: ""}, [], "2.0"),
        (SAID, {}, [], "2.0"),
        ("https://repo.example/a-3.0.jar", {}, [], "3.0"),
        ("https://repo.example/a.jar", {}, [], ""),
    ],
)
def test_of_the_places_for_a_version_the_first_counts(
    image: str, annotations: dict[str, str], env: Env, expected: str
) -> None:
    assert version("a", image, env, replace(TEMPLATE, annotations=annotations)) == expected


def test_a_version_that_is_not_known_yet_is_taken_from_nowhere_else() -> None:
    assert version("a", SAID, [("BIZ_VERSION", FieldRef("metadata.name"))], TEMPLATE) == ""


def test_a_module_gets_arguments_and_variables_resolved_and_not_its_version() -> None:
    container = Container(
        "a",
        "u",
        "1",
        args=("--pod=$(POD)", "--version=$(BIZ_VERSION)", "$$(POD)", "$(NOBODY)"),
        env=(("BIZ_VERSION", "1"), ("POD", FieldRef("metadata.name")), ("WHO", "$(POD)/$(BIZ_VERSION)")),
    )
    args, env = resolve(container, FACTS)
    assert args == ("--pod=p", "--version=1", "$(POD)", "$(NOBODY)")
    assert env == (("POD", "p"), ("WHO", "p/1"))


@pytest.mark.parametrize(
    ("path", "annotation"),
    [
        ("metadata.annotations['example.com/note']", "example.com/note"),
        ("metadata.labels['tier']", ""),
        ("metadata.annotations", ""),
        ("", ""),
    ],
)
def test_a_path_names_its_annotation(path: str, annotation: str) -> None:
    assert annotation_of(path) == annotation


def multiplied(steps: int) -> Env:
    """Variables of which each is four times the one before."""
    return [("A0", "x"), *((f"A{step}", f"$(A{step - 1})" * 4) for step in range(1, steps + 1))]


def test_variables_that_multiply_are_refused_before_they_are_put_together() -> None:
    assert too_long((), multiplied(9), FACTS) == ""
    assert too_long((), multiplied(40), FACTS).startswith("env A10: variables and arguments have more than 1048576")


def test_arguments_count_too() -> None:
    assert too_long(["$(A9)"] * 2, multiplied(9), FACTS) == ""
    assert too_long(["$(A9)"] * 3, multiplied(9), FACTS).startswith("args: ")


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.text(alphabet="$()ABC", max_size=16)), max_size=8),
    st.lists(st.text(alphabet="$()ABC", max_size=16), max_size=3),
)
def test_nothing_is_longer_than_was_counted(env: list[tuple[str, str]], args: list[str]) -> None:
    container = Container("c", "i", args=tuple(args), env=tuple(env))
    resolved_args, resolved_env = resolve(container, FACTS)
    size = sum(map(len, resolved_args)) + sum(len(value) for _, value in resolved_env)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "LONGEST", size - 1)
        assert too_long(args, env, FACTS)


@pytest.mark.parametrize("divisor", ["0", "-0.5", "-0.5n"])
def test_a_divisor_that_is_nothing_when_it_is_whole_counts_as_one(divisor: str) -> None:
    reference = ResourceRef("limits.memory", divisor, "1Ki")
    assert variables([("R", reference)], FACTS) == {"R": "1024"}
