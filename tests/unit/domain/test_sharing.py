"""Equal values are kept once, and what is long or long ago is not kept at all."""

from controlplane.cluster import fields, reading
from controlplane.cluster.api import Json
from controlplane.domain.base.environment import Place
from controlplane.domain.base.wishes import wishes
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Condition, Pod, Taint
from controlplane.domain.sharing import KEPT, LONGEST, shared


def pod(number: int, **container: object) -> Pod:
    """Return one of the Pods of a Deployment."""
    env = [{"name": "BIZ_VERSION", "value": "1"}]
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    obj: Json = {
        "metadata": {
            "namespace": "default",
            "name": f"biz1-{number}",
            "uid": f"uid-{number}",
            "resourceVersion": str(number),
            "labels": {"app": "biz1"},
            "annotations": {"note": "n"},
        },
        "spec": {"containers": [{"name": "biz1", "image": "https://repo.example/biz1.jar", "env": env, **container}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [{"name": "biz1", "ready": True, "state": state}],
        },
    }
    return reading.pod(obj)


def test_pods_of_one_deployment_share_what_they_have_in_common() -> None:
    one, other = pod(1), pod(2)
    assert one.containers[0] is other.containers[0]
    assert one.labels is other.labels
    assert one.annotations is other.annotations
    assert one.status.conditions[0] is other.status.conditions[0]
    assert one.status.containers[0] is other.status.containers[0]
    wanted = wishes((one, other), Place("10.0.0.7"))
    assert wanted[0].spec is wanted[1].spec
    assert wanted[0].release is wanted[1].release


def test_what_differs_stays_different() -> None:
    assert pod(1).containers[0] != pod(2, args=["-x"]).containers[0]
    assert shared(Condition("Ready", "True")) != shared(Condition("Ready", "False"))


def test_values_of_different_types_are_not_taken_for_each_other() -> None:
    assert type(shared(("biz1", "1"))) is tuple
    assert type(shared(ModuleKey("biz1", "1"))) is ModuleKey
    assert type(shared(Taint("a", "b", "c"))) is Taint


def test_what_is_long_is_not_kept() -> None:
    long = ["x" * (LONGEST + 1)]
    one, other = pod(1, args=long).containers[0], pod(2, args=long).containers[0]
    assert one == other
    assert one is not other
    labels = {"metadata": {"labels": {"app": long[0]}}}
    assert fields.words(labels["metadata"], "labels") is not fields.words(labels["metadata"], "labels")


def test_only_values_of_the_last_while_are_kept() -> None:
    first = shared(Condition("first", "True"))
    for number in range(KEPT):
        shared(Condition(str(number), "True"))
    assert shared(Condition("first", "True")) is not first
