"""mctl rollout status against a fake server: its requests, its output and its exit codes."""

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from tests.fakes.tooling import FakeTooling, Fault
from tests.integration.mctl.conftest import Mctl

DONE = pb.GetRolloutResponse(observed=True, desired=2, updated=2, available=2, done=True)
BEGUN = pb.GetRolloutResponse(
    observed=True,
    desired=2,
    updated=2,
    available=1,
    troubles=[
        pb.RolloutTrouble(
            vnode="vnode.b1.dev", pod="default/a", module="biz1:2", reason="InstallFailed", message="no\nsuch\x1b jar"
        )
    ],
)


def asked(fake: FakeTooling) -> pb.GetRolloutRequest:
    request = fake.requests["GetRollout"][-1]
    assert isinstance(request, pb.GetRolloutRequest)
    return request


def test_a_deployment_is_followed_to_its_end(fake: FakeTooling, mctl: Mctl) -> None:
    fake.rollouts.extend([BEGUN, DONE])
    outcome = mctl("rollout", "status", "deployment/web", "-n", "shop")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        'Waiting for deployment "web" rollout to finish: 1 of 2 updated replicas are available...',
        "pod default/a on vnode.b1.dev: biz1:2: InstallFailed: no such\ufffd jar",
        'deployment "web" successfully rolled out',
    ]
    ref = asked(fake).workload
    assert (ref.api_version, ref.kind, ref.namespace, ref.name) == ("apps/v1", "Deployment", "shop", "web")


def test_a_daemonset_and_modules_are_asked_for_as_named(fake: FakeTooling, mctl: Mctl) -> None:
    fake.rollouts.append(DONE)
    assert mctl("rollout", "status", "daemonset/web").code == 0
    assert asked(fake).workload.kind == "DaemonSet"
    assert mctl("rollout", "status", "module/biz1:2").code == 0
    assert (asked(fake).module.name, asked(fake).module.version) == ("biz1", "2")
    assert not asked(fake).module.HasField("target")
    for argv, target in (
        (("--base", "b1"), pb.Target(base="b1")),
        (("-l", "zone=a"), pb.Target(selector="zone=a")),
        (("--all",), pb.Target(all=True)),
    ):
        assert mctl("rollout", "status", "module/biz1", *argv).code == 0
        assert asked(fake).module.target == target


def test_replicas_that_could_not_be_asked_are_named(fake: FakeTooling, mctl: Mctl) -> None:
    done = pb.GetRolloutResponse(observed=True, done=True, unreachable_replicas=["b"])
    fake.rollouts.append(done)
    outcome = mctl("rollout", "status", "module/biz1")
    assert (outcome.code, outcome.err.startswith("mctl: warning: cannot ask replica b: ")) == (0, True)


def test_exit_codes(fake: FakeTooling, mctl: Mctl) -> None:
    assert mctl("rollout", "status", "deployment/web").code == 3
    fake.rollouts.append(BEGUN)
    outcome = mctl("rollout", "status", "deployment/web", "--timeout", "300ms")
    assert outcome.code == 4
    assert "timed out after 0.3s" in outcome.err
    assert "InstallFailed" in outcome.err
    fake.rollouts[0] = pb.GetRolloutResponse(observed=True, desired=1, failure="biz1:2: IdentityMismatch: it is biz9")
    outcome = mctl("rollout", "status", "deployment/web")
    assert (outcome.code, outcome.err) == (
        1,
        'mctl: deployment "web" failed: biz1:2: IdentityMismatch: it is biz9\n',
    )
    fake.fail("GetRollout", Fault(grpc.StatusCode.UNAVAILABLE))
    fake.rollouts[0] = DONE
    assert mctl("rollout", "status", "deployment/web").code == 0


@pytest.mark.parametrize(
    "argv",
    [
        ("pod/a",),
        ("deployment",),
        ("deployment/a", "--all"),
        ("module/a", "--all", "--base", "b"),
        ("module/a", "--timeout", "soon"),
    ],
)
def test_wrong_command_lines(fake: FakeTooling, mctl: Mctl, argv: tuple[str, ...]) -> None:
    outcome = mctl("rollout", "status", *argv)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert not any(fake.requests.values())


def in_batches(batch: int) -> pb.GetRolloutResponse:
    batches = pb.BatchedRelease(revision=7, batch=batch, batches=3, reason="Paused", message="revision 7 waits")
    return pb.GetRolloutResponse(observed=True, desired=6, updated=2, available=6, batches=batches)


def test_a_release_in_batches_is_steered_at_the_batch_that_it_is_at(fake: FakeTooling, mctl: Mctl) -> None:
    fake.rollouts.append(in_batches(2))
    confirmed = mctl("rollout", "confirm", "deployment/web", "-n", "shop")
    assert (confirmed.code, confirmed.out) == (0, "deployment/web: batch 2 of revision 7 confirmed\n")
    assert mctl("rollout", "confirm", "deployment/web", "--failed").code == 0
    aborted = mctl("rollout", "abort", "deployment/web", "-n", "shop")
    assert (aborted.code, aborted.out) == (0, "deployment/web: revision 7 aborted\n")
    first, second = fake.requests["ConfirmRollout"]
    (third,) = fake.requests["AbortRollout"]
    assert isinstance(first, pb.ConfirmRolloutRequest)
    assert isinstance(second, pb.ConfirmRolloutRequest)
    assert isinstance(third, pb.AbortRolloutRequest)
    assert (first.revision, first.batch, first.failed, second.failed) == (7, 2, False, True)
    assert (third.revision, third.workload.namespace, third.workload.name) == (7, "shop", "web")


def test_what_is_not_being_released_is_not_steered(fake: FakeTooling, mctl: Mctl) -> None:
    fake.rollouts.append(in_batches(0))
    refused = mctl("rollout", "confirm", "deployment/web")
    assert (refused.code, refused.err) == (1, "mctl: deployment/web: revision 7 waits\n")
    fake.rollouts[0] = DONE
    refused = mctl("rollout", "abort", "deployment/web")
    assert (refused.code, refused.err) == (1, "mctl: deployment/web has no annotation module.koupleless.io/batches\n")
    assert mctl("rollout", "abort", "daemonset/web").code == 2
    assert not fake.requests["ConfirmRollout"]
    assert not fake.requests["AbortRollout"]


def test_the_state_of_batches_is_shown(fake: FakeTooling, mctl: Mctl) -> None:
    fake.rollouts.extend([in_batches(2), in_batches(2), DONE])
    outcome = mctl("rollout", "status", "deployment/web")
    assert outcome.out.splitlines() == [
        'Waiting for deployment "web" rollout to finish: 2 out of 6 new replicas have been updated...',
        "revision 7 waits",
        'deployment "web" successfully rolled out',
    ]
