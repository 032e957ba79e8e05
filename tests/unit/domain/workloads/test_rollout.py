"""A rollout: when it is done, what it reports until then, and when it cannot succeed."""

from dataclasses import replace

import pytest

from controlplane.domain.base import replies
from controlplane.domain.facts import ClientCode, Reply, ReplyCode, Verb
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Condition, Container, ContainerStatus, Pod, PodStatus, Requirement
from controlplane.domain.workloads.rollout import FINAL, ModuleOnBase, Part, Workload, of_module, of_workload

BIZ = Container("biz1", "https://repo.example/biz1-2.jar", version="2")
DONE = Workload(
    "Deployment",
    "default",
    "web",
    observed=True,
    desired=2,
    updated=2,
    available=2,
    total=2,
    selector=(Requirement("app", "In", ("web",)),),
    containers=(BIZ,),
)


def pod(name: str, reason: str = "", *, container: Container = BIZ, node: str = "vnode.b1.dev") -> Pod:
    waiting = ContainerStatus(container.name, "waiting", reason=reason, message="why")
    running = ContainerStatus(container.name, "running", ready=True)
    plain = Pod("default", name, name, "1", node, (container,), PodStatus(containers=(waiting if reason else running,)))
    return replace(plain, labels={"app": "web"})


@pytest.mark.parametrize(
    ("workload", "done"),
    [
        (DONE, True),
        (replace(DONE, observed=False), False),
        (replace(DONE, updated=1), False),
        (replace(DONE, total=3), False),
        (replace(DONE, available=1), False),
        (replace(DONE, desired=0, updated=0, available=0, total=0), True),
    ],
)
def test_done_is_what_kubectl_calls_done(workload: Workload, done: bool) -> None:
    assert of_workload(workload, ()).done is done


def test_old_pods_are_those_beyond_the_new() -> None:
    assert of_workload(replace(DONE, total=3), ()).old == 1


def test_a_failing_module_of_a_new_pod_is_reported_and_waited_for() -> None:
    found = of_workload(DONE, [pod("a"), pod("b", "InstallFailed")])
    assert found.troubles == (Part("vnode.b1.dev", "default/b", "biz1:2", False, "InstallFailed", "why"),)
    assert not found.failure


@pytest.mark.parametrize("reason", sorted(FINAL))
def test_what_is_not_tried_again_fails_the_rollout(reason: str) -> None:
    assert of_workload(DONE, [pod("b", reason)]).failure == f"biz1:2 on vnode.b1.dev: {reason}: why"


def test_final_reasons_are_those_of_permanent_failures() -> None:
    key = ModuleKey("biz1", "2")
    permanent = (
        Reply(ReplyCode.CMD_NOT_FOUND, ClientCode.UNSPECIFIED),
        Reply(ReplyCode.INTERNAL_ERROR, ClientCode.UNSPECIFIED, message="bizUrl should not be blank"),
    )
    assert {replies.meaning(Verb.INSTALL, key, reply).reason for reply in permanent} <= FINAL
    failed = replies.meaning(Verb.INSTALL, key, Reply(ReplyCode.INTERNAL_ERROR, ClientCode.UNSPECIFIED, message="x"))
    assert failed.reason not in FINAL


@pytest.mark.parametrize(
    "other",
    [
        pod("old", "InstallFailed", container=replace(BIZ, version="1")),
        replace(pod("leaving", "InstallFailed"), deleting=True),
        replace(pod("foreign", "InstallFailed"), labels={"app": "other"}),
        replace(pod("elsewhere", "InstallFailed"), namespace="other"),
        pod("on-its-way", "Installing"),
    ],
)
def test_other_pods_are_no_trouble(other: Pod) -> None:
    assert of_workload(DONE, [other]).troubles == ()


def test_a_pod_without_a_node_and_one_on_a_silent_base_are_reported() -> None:
    nowhere = Condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")
    silent = Condition("Ready", "False", "BaseUnreachable", "no sign of life for 25 s")
    unscheduled = replace(pod("a", "Pending", node=""), status=PodStatus(conditions=(nowhere,)))
    unreachable = pod("b")
    unreachable = replace(unreachable, status=replace(unreachable.status, conditions=(silent,)))
    assert [t.reason for t in of_workload(DONE, [unscheduled, unreachable]).troubles] == [
        "Unschedulable",
        "BaseUnreachable",
    ]


def test_a_module_whose_probe_fails_is_reported_with_the_pods_message() -> None:
    message = "modules not ready: biz1 (HTTP probe failed with statuscode: 503)"
    unready = Condition("ContainersReady", "False", "ContainersNotReady", message)
    probed = pod("a")
    (container,) = probed.status.containers
    running = replace(container, kind="running", ready=False, reason="", message="")
    probed = replace(probed, status=PodStatus(conditions=(unready,), containers=(running,)))
    assert [(t.reason, t.message) for t in of_workload(DONE, [probed]).troubles] == [("NotReady", message)]


def test_a_failure_of_the_controller_fails_the_rollout() -> None:
    assert of_workload(replace(DONE, failure="too late"), [pod("b", "InvalidModule")]).failure == "too late"


READY = Part("n1", "default/a", "biz1:2", ready=True)
FAILING = Part("n1", "default/b", "biz1:2", reason="InstallFailed", message="why")


@pytest.mark.parametrize(
    ("bases", "counts", "done"),
    [
        ([ModuleOnBase("n1", (READY,)), ModuleOnBase("n2", (READY,))], (2, 2, 2), True),
        ([ModuleOnBase("n1", (READY,)), ModuleOnBase("n2", ())], (2, 1, 1), False),
        ([ModuleOnBase("n1", (READY, FAILING))], (1, 1, 0), False),
        ([ModuleOnBase("n1", (READY,), unreachable="silent")], (1, 1, 0), False),
    ],
)
def test_a_module_is_rolled_out_when_every_base_has_all_of_it(
    bases: list[ModuleOnBase], counts: tuple[int, int, int], done: bool
) -> None:
    found = of_module(bases)
    assert (found.desired, found.updated, found.available) == counts
    assert found.done is done


def test_a_silent_base_and_a_failing_module_are_reported() -> None:
    assert of_module([ModuleOnBase("n1", (FAILING,)), ModuleOnBase("n2", (READY,), "silent for 30 s")]).troubles == (
        FAILING,
        Part("n2", reason="BaseUnreachable", message="silent for 30 s"),
    )
