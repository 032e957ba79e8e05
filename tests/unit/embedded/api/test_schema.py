"""The embedded API server refuses wrong objects, and names path and value."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.ports import Rejected
from controlplane.cluster.api import DEPLOYMENTS, NODES, PODS, Json
from controlplane.embedded.api.schema import check_fields, validate, validate_change
from tests.unit.embedded.manifests import deployment, pod, vnode

Edit = Callable[[Json], object]


def test_the_manifests_of_modules_are_valid() -> None:
    validate(PODS, pod("a"))
    validate(NODES, vnode("n"))
    validate(DEPLOYMENTS, deployment("d", 2, apart=True))


def apart(selector: Json | None, **keys: list[str]) -> Json:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector, **keys}
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda p: p["metadata"].update(name="Biz_1"), 'metadata.name: Invalid value: "Biz_1"'),
        (lambda p: p["metadata"].pop("name"), "metadata.name: Required value"),
        (lambda p: p["metadata"].update(labels={"a/b/c": "x"}), "metadata.labels: Invalid value"),
        (lambda p: p["metadata"].update(labels={"a": "x y"}), "metadata.labels[a]: Invalid value"),
        (lambda p: p["metadata"].update(labels={"a": 1}), "metadata.labels[a]: Invalid value: 1: must be a string"),
        (lambda p: p["metadata"].update(annotations={"a": 5}), "metadata.annotations[a]: Invalid value"),
        (lambda p: p["metadata"].update(annotations={"a": "x" * 300_000}), "metadata.annotations: Invalid value"),
        (lambda p: p["spec"].pop("containers"), "spec.containers: Required value"),
        (lambda p: p["spec"]["containers"][0].pop("image"), "spec.containers[0].image: Required value"),
        (lambda p: p["spec"]["containers"][0].update(name="A"), "spec.containers[0].name: Invalid value"),
        (lambda p: p["spec"]["containers"].append(p["spec"]["containers"][0]), "spec.containers[1].name: Duplicate"),
        (lambda p: p["spec"].update(containers="x"), "spec.containers: Invalid value"),
        (lambda p: p["spec"]["containers"][0].update(env=[{"value": "1"}]), "env[0].name: Required value"),
        (lambda p: p["spec"].update(tolerations=[{"operator": "Equal"}]), "spec.tolerations[0].operator: Invalid"),
        (lambda p: p["spec"].update(tolerations=[{"key": "a", "effect": "No"}]), "tolerations[0].effect: Unsupported"),
        (
            lambda p: p["spec"].update(tolerations=[{"key": "a", "until": "noon"}]),
            'spec: Invalid value: "tolerations[0].until',
        ),
        (lambda p: p["spec"].update(restartPolicy="Sometimes"), "spec.restartPolicy: Unsupported value"),
        (lambda p: p.update(spec=[]), "spec: Invalid value"),
        (
            lambda p: p["spec"]["affinity"]["nodeAffinity"].update(
                requiredDuringSchedulingIgnoredDuringExecution={"nodeSelectorTerms": []}
            ),
            "nodeSelectorTerms: Required value",
        ),
        (
            lambda p: p["spec"]["affinity"].update(podAntiAffinity=apart(None, matchLabelKeys=["a"])),
            "[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        ),
        (
            lambda p: p["spec"]["affinity"].update(
                podAntiAffinity=apart({"matchLabels": {"a": "1"}}, matchLabelKeys=["a"])
            ),
            '[0].matchLabelKeys[0]: Invalid value: "a": exists in the labelSelector or a list before',
        ),
        (
            lambda p: p["spec"]["affinity"].update(
                podAntiAffinity=apart({}, matchLabelKeys=["a"], mismatchLabelKeys=["a"])
            ),
            "[0].mismatchLabelKeys[0]: Invalid value",
        ),
        (
            lambda p: p["spec"]["affinity"].update(podAffinity=apart({}, matchLabelKeys=["a b"])),
            "[0].matchLabelKeys[0]: Invalid value",
        ),
    ],
)
def test_an_error_in_a_pod_is_named_with_its_path(edit: Edit, expected: str) -> None:
    manifest = pod("a")
    edit(manifest)
    with pytest.raises(Rejected) as raised:
        validate(PODS, manifest)
    assert expected in str(raised.value)
    assert str(raised.value).startswith('Pod "')


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d["spec"].pop("selector"), "spec.selector: Required value"),
        (lambda d: d["spec"].update(selector={"matchLabels": {"app": "other"}}), "`selector` does not match template"),
        (lambda d: d["spec"].update(replicas=-1), "spec.replicas: Invalid value: -1"),
        (lambda d: d["spec"].update(replicas="2"), "spec.replicas: Invalid value"),
        (lambda d: d["spec"].update(strategy={"type": "Blue"}), "spec.strategy.type: Unsupported value"),
        (
            lambda d: d["spec"].update(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (lambda d: d["spec"].update(strategy={"rollingUpdate": {"maxSurge": "many"}}), "maxSurge: Invalid value"),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].pop("image"),
            "spec.template.spec.containers[0].image: Required value",
        ),
    ],
)
def test_an_error_in_a_deployment_is_named_with_its_path(edit: Edit, expected: str) -> None:
    manifest = deployment("d", 1)
    edit(manifest)
    with pytest.raises(Rejected) as raised:
        validate(DEPLOYMENTS, manifest)
    assert expected in str(raised.value)
    assert str(raised.value).startswith('Deployment.apps "d" is invalid: ')


def test_node_taints_need_an_effect_and_are_unique() -> None:
    node = vnode("n")
    node["spec"]["taints"] = [{"key": "a", "effect": "NoRun"}, {"key": "b", "effect": "NoExecute"}] * 2
    with pytest.raises(Rejected, match=r"Unsupported value.*Duplicate value"):
        validate(NODES, node)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d["spec"].update(replica=3), 'unknown field "spec.replica" (did you mean "replicas"?)'),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].update(imagee="x"),
            'unknown field "spec.template.spec.containers[0].imagee" (did you mean "image"?)',
        ),
        (lambda d: d.update(zzz=1), 'unknown field "zzz"'),
        (lambda d: d["metadata"].update(label={}), 'unknown field "metadata.label"'),
    ],
)
def test_misspelt_fields_of_a_manifest_are_refused(edit: Edit, expected: str) -> None:
    manifest = deployment("d", 1)
    check_fields(DEPLOYMENTS, manifest)
    edit(manifest)
    with pytest.raises(Rejected) as raised:
        check_fields(DEPLOYMENTS, manifest)
    assert expected in str(raised.value)


def test_fields_without_effect_may_hold_anything() -> None:
    manifest = pod("a")
    manifest["spec"]["volumes"] = [{"name": "v", "exotic": {"deep": 1}}]
    manifest["metadata"]["annotations"] = {"any/key": "x"}
    check_fields(PODS, manifest)


def test_a_pod_changes_only_in_image_and_added_tolerations() -> None:
    before, after = pod("a"), pod("a")
    after["spec"]["containers"][0]["image"] = "https://example.com/next.jar"
    after["spec"]["tolerations"] = [*before["spec"]["tolerations"], {"operator": "Exists"}]
    validate_change(PODS, before, after)
    changes: list[Json] = [{"nodeName": "n"}, {"tolerations": []}, {"containers": []}]
    for change in changes:
        with pytest.raises(Rejected):
            validate_change(PODS, before, {**after, "spec": {**after["spec"], **change}})


hostile: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "spec",
                    "name",
                    "labels",
                    "containers",
                    "template",
                    "selector",
                    "matchLabels",
                    "tolerations",
                    "affinity",
                    "nodeAffinity",
                    "taints",
                    "env",
                    "strategy",
                    "rollingUpdate",
                    "maxSurge",
                    "ownerReferences",
                    "nodeSelectorTerms",
                    "matchExpressions",
                    "values",
                    "requiredDuringSchedulingIgnoredDuringExecution",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(st.sampled_from([PODS, NODES, DEPLOYMENTS]), st.dictionaries(st.sampled_from(["metadata", "spec"]), hostile))
def test_hostile_objects_are_rejected_and_never_raise_anything_else(resource: Any, obj: Json) -> None:
    with pytest.raises(Rejected):
        validate(resource, obj)
