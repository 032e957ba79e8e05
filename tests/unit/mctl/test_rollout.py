"""mctl rollout status: what it prints, and how it ends."""

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.commands.rollout import follow
from mctl.errors import CommandError, TimedOut
from mctl.pacing import Looks


def rollout(
    updated: int = 0,
    available: int = 0,
    old: int = 0,
    *,
    observed: bool = True,
    done: bool = False,
    failure: str = "",
    troubles: tuple[pb.RolloutTrouble, ...] = (),
) -> pb.GetRolloutResponse:
    return pb.GetRolloutResponse(
        observed=observed,
        desired=3,
        updated=updated,
        available=available,
        old=old,
        done=done,
        failure=failure,
        troubles=troubles,
    )


START = rollout(observed=False)
SEEN = rollout()
NEW = rollout(3, old=1)
READY = rollout(3, 2)
DONE = rollout(3, 3, done=True)
TROUBLE = pb.RolloutTrouble(
    vnode="vnode.b1.dev", pod="default/web-1", module="biz1:2", reason="InstallFailed", message="no such jar"
)
FAILING = rollout(3, 2, troubles=(TROUBLE,))
TROUBLE_LINE = "pod default/web-1 on vnode.b1.dev: biz1:2: InstallFailed: no such jar"


class Script:
    """A rollout that has the next state at each look and keeps the last one."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *rollouts: pb.GetRolloutResponse) -> None:
        self.rollouts = list(rollouts)
        self.now = 0.0
        self._capsys = capsys

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1.0
        self.now += seconds

    def follow(self, kind: str = "deployment", timeout: float = 60.0) -> list[str]:
        looks = Looks(timeout, clock=lambda: self.now, sleep=self.sleep)

        def ask() -> pb.GetRolloutResponse:
            assert looks.left >= 1.0
            return self.rollouts.pop(0) if len(self.rollouts) > 1 else self.rollouts[0]

        follow(ask, kind, "web", looks)
        return self._capsys.readouterr().out.splitlines()


def test_progress_is_printed_once_in_the_words_of_kubectl(capsys: pytest.CaptureFixture[str]) -> None:
    assert Script(capsys, START, SEEN, SEEN, NEW, READY, DONE).follow() == [
        'Waiting for deployment "web" spec update to be observed...',
        'Waiting for deployment "web" rollout to finish: 0 out of 3 new replicas have been updated...',
        'Waiting for deployment "web" rollout to finish: 1 old replicas are pending termination...',
        'Waiting for deployment "web" rollout to finish: 2 of 3 updated replicas are available...',
        'deployment "web" successfully rolled out',
    ]


@pytest.mark.parametrize(("kind", "title"), [("daemonset", "daemon set"), ("module", "module")])
def test_other_kinds_have_their_title(capsys: pytest.CaptureFixture[str], kind: str, title: str) -> None:
    assert Script(capsys, DONE).follow(kind) == [f'{title} "web" successfully rolled out']


def test_a_retried_failure_is_printed_once_and_again_when_it_returns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Script(capsys, FAILING, FAILING, READY, FAILING, DONE).follow()
    assert lines.count(TROUBLE_LINE) == 2
    assert lines[-1] == 'deployment "web" successfully rolled out'


def test_a_rollout_that_cannot_progress_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    failure = "biz1:2 on vnode.b1.dev: IdentityMismatch: the jar is biz9"
    with pytest.raises(CommandError, match="IdentityMismatch: the jar is biz9"):
        Script(capsys, SEEN, rollout(3, 2, failure=failure)).follow()


def test_a_timeout_reports_what_blocks_the_rollout(capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(capsys, FAILING)
    with pytest.raises(TimedOut) as caught:
        script.follow(timeout=5.0)
    assert caught.value.lines == (
        'timed out after 5s: Waiting for deployment "web" rollout to finish: 2 of 3 updated replicas are available...',
        TROUBLE_LINE,
    )
    assert script.now == pytest.approx(5.0)
