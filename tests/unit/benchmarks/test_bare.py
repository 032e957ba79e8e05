"""What a bare client writes, and how ours is set beside it."""

import pytest

from benchmarks.api import ready
from benchmarks.bare import ENV, _running, _vnode, multiple
from benchmarks.figures import Figure
from benchmarks.modules import Module
from benchmarks.onboarding import cpu_of_each
from benchmarks.rollout import Done, _Rounds
from benchmarks.usage import Usage
from controlplane.domain import contract


def test_a_bare_node_is_like_ours_and_followed_by_nobody() -> None:
    lease, node = _vnode("base-1")
    assert lease["metadata"]["name"] == node["metadata"]["name"] == "vnode.base-1.bare"
    assert node["metadata"]["labels"][contract.COMPONENT] == contract.COMPONENT_VNODE
    assert lease["metadata"]["labels"][contract.ENV] == node["metadata"]["labels"][contract.ENV] == ENV
    assert ready("ADDED", node)
    assert lease["spec"]["holderIdentity"]


def test_a_bare_pod_becomes_ready() -> None:
    assert ready("MODIFIED", _running(Module("a", "module-0", "biz0")))


def test_a_multiple_is_ours_over_that_of_the_bare_client() -> None:
    figure = multiple("rollout", [26.0], [20.0], 1.3)
    assert figure.value == pytest.approx(1.3)
    assert figure.ratio == pytest.approx(1)
    assert figure.note == "a bare client 20.00 s, ours 26.00 s"


def test_of_several_rounds_the_median_of_the_multiples_counts() -> None:
    figure = multiple("rollout", [30.0, 13.0, 22.0], [20.0, 10.0, 20.0], 1.3)
    assert figure.value == pytest.approx(1.3)
    assert figure.note == "a bare client 20.00, 10.00, 20.00 s, ours 30.00, 13.00, 22.00 s"
    rounds = _Rounds([20.0, 10.0, 20.0])
    for seconds in (30.0, 13.0, 22.0):
        rounds.add(Done(seconds, {}, [Figure("took", seconds, "s")]))
    assert [each.value for each in rounds.median()] == [13.0]
    rounds.bare.clear()
    assert [each.value for each in rounds.median()] == [22.0]


def test_cpu_of_each_says_what_is_as_at_rest() -> None:
    before = {name: Usage(1.0, 0) for name in ("control plane", "gateway", "bases")}
    after = {"control plane": Usage(3.0, 0), "gateway": Usage(2.0, 0), "bases": Usage(9.0, 0)}
    limits, rest = {"control plane": 2.0}, {"control plane": 0.1, "gateway": 0.1}
    ours, gateway = cpu_of_each(before, after, 1000, "module", limits, rest, 5.0)
    assert ours.name == "CPU of control plane per module"
    assert (ours.value, ours.ratio) == (2, 1)
    assert (gateway.value, gateway.target, gateway.note) == (1, None, "of it 0.500 ms as at rest")
    assert cpu_of_each(before, after, 1000, "module", limits)[0].note == ""
