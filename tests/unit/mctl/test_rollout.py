"""mctl rollout status: what it prints on the way, and how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mctl.commands.rollout import follow
from mctl.errors import Refused, TimedOut
from mctl.rollouts import WORDS, Rollout, Trouble

START = Rollout(observed=False, desired=3, updated=0, available=0, old=0, done=False, failure="", troubles=())
SEEN = replace(START, observed=True)
NEW = replace(SEEN, updated=3, old=1)
READY = replace(SEEN, updated=3, available=2)
DONE = replace(SEEN, updated=3, available=3, done=True)
FAILS = Trouble("vnode.b1.dev", "default/web-1", "biz1:2", "InstallFailed", "no such jar")


class Script:
    """A rollout that goes through states, one a look, and stays in the last."""

    def __init__(self, *rollouts: Rollout) -> None:
        self.rollouts = list(rollouts)
        self.told: list[str] = []
        self.now = 0.0

    def look(self, limit: float) -> Rollout:
        assert limit >= 1.0
        return self.rollouts.pop(0) if len(self.rollouts) > 1 else self.rollouts[0]

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1.0
        self.now += seconds

    def follow(self, kind: str = "deployment", timeout: float = 60.0) -> list[str]:
        follow(
            self.look,
            WORDS[kind],
            "web",
            timeout,
            told=self.told.append,
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        return self.told


def test_progress_is_told_once_in_the_words_of_kubectl() -> None:
    assert Script(START, SEEN, SEEN, NEW, READY, DONE).follow() == [
        'Waiting for deployment "web" spec update to be observed...',
        'Waiting for deployment "web" rollout to finish: 0 out of 3 new replicas have been updated...',
        'Waiting for deployment "web" rollout to finish: 1 old replicas are pending termination...',
        'Waiting for deployment "web" rollout to finish: 2 of 3 updated replicas are available...',
        'deployment "web" successfully rolled out',
    ]


@pytest.mark.parametrize(("kind", "title"), [("daemonset", "daemon set"), ("module", "module")])
def test_other_kinds(kind: str, title: str) -> None:
    assert Script(DONE).follow(kind) == [f'{title} "web" successfully rolled out']


def test_a_failure_that_is_tried_again_is_told_once_and_again_when_it_comes_back() -> None:
    failing = replace(READY, troubles=(FAILS,))
    told = Script(failing, failing, READY, failing, DONE).follow()
    assert told.count("pod default/web-1 on vnode.b1.dev: biz1:2: InstallFailed: no such jar") == 2
    assert told[-1] == 'deployment "web" successfully rolled out'


def test_a_rollout_that_cannot_get_on_ends_at_once() -> None:
    script = Script(SEEN, replace(READY, failure="biz1:2 on vnode.b1.dev: IdentityMismatch: the jar is biz9"))
    with pytest.raises(Refused, match="IdentityMismatch: the jar is biz9"):
        script.follow()


def test_what_is_not_done_in_time_is_told_with_what_keeps_it() -> None:
    script = Script(replace(READY, troubles=(FAILS,)))
    with pytest.raises(TimedOut) as caught:
        script.follow(timeout=5.0)
    assert caught.value.lines == (
        'timed out after 5s: Waiting for deployment "web" rollout to finish: 2 of 3 updated replicas are available...',
        str(FAILS),
    )
    assert script.now == pytest.approx(5.0)
