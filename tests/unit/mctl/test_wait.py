"""mctl wait: which targets it takes, what it prints, and when it ends."""

from functools import partial
from typing import Self

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.commands.wait import Condition, WaitTarget, parse_target, until
from mctl.errors import ItemNotFound, ServerUnreachable, TimedOut, UsageError
from mctl.pacing import Looks
from mctl.rpc.client import ToolingClient

STARTING = "is starting"
READY = ""


class Script:
    """A target that has the next state at each look and keeps the last one; None is an absent target."""

    def __init__(self, title: str, *states: str | None) -> None:
        self.target = WaitTarget(title, self.look)
        self.states = list(states)
        self.looks: list[float] = []

    def look(self, client: ToolingClient) -> str:
        self.looks.append(client.timeout)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise ItemNotFound("none")
        return state


class Client(ToolingClient):
    """A client that sends nothing and keeps the timeout of the next request."""

    def __init__(self) -> None:
        self.timeout = 0.0

    def within(self, seconds: float | None = None) -> Self:
        assert seconds is not None
        self.timeout = seconds
        return self


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1.0
        self.now += seconds


def run(scripts: list[Script], condition: Condition, timeout: float = 10.0) -> None:
    clock = Clock()
    looks = Looks(timeout, clock=clock, sleep=clock.sleep)
    until(Client(), [script.target for script in scripts], condition, looks)


def test_each_target_is_printed_when_it_is_ready_and_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    quick, slow = Script("pod/a", READY), Script("pod/b", None, STARTING, READY)
    run([slow, quick], "ready")
    assert capsys.readouterr().out.splitlines() == ["pod/a ready", "pod/b ready"]
    assert (len(quick.looks), len(slow.looks)) == (1, 3)


def test_gone_means_absent(capsys: pytest.CaptureFixture[str]) -> None:
    run([Script("pod/a", READY, STARTING, None)], "gone")
    assert capsys.readouterr().out.splitlines() == ["pod/a gone"]


def test_a_timeout_names_each_missing_target_and_why() -> None:
    with pytest.raises(TimedOut) as caught:
        run([Script("pod/a", STARTING), Script("pod/b", READY), Script("pod/c", None)], "ready", 3.0)
    assert caught.value.lines == (
        "timed out after 3s: pod/a is starting",
        "timed out after 3s: pod/c is not there",
    )
    with pytest.raises(TimedOut, match="timed out after 3s: pod/b is there"):
        run([Script("pod/b", READY)], "gone", 3.0)


def test_every_look_is_bounded_by_the_deadline() -> None:
    script = Script("pod/a", STARTING)
    with pytest.raises(TimedOut):
        run([script], "ready", 5.0)
    assert all(1.0 <= timeout <= 5.0 for timeout in script.looks)
    assert 5 < len(script.looks) < 60


def test_an_unreachable_server_ends_the_wait() -> None:
    def away(_client: ToolingClient) -> str:
        raise ServerUnreachable("away")

    with pytest.raises(ServerUnreachable):
        until(Client(), [WaitTarget("pod/a", away)], "gone", Looks(1.0))


def test_targets_are_parsed() -> None:
    def parse(text: str) -> dict[str, object]:
        target = parse_target(text, base="b", namespace="ns")
        assert target.title == text
        assert isinstance(target.look, partial)
        return target.look.keywords

    assert parse("vnode/x") == {"name": "x"}
    assert parse("module/biz1") == {"name": "biz1", "version": "", "base": "b"}
    assert parse("module/biz1:0.0.1") == {"name": "biz1", "version": "0.0.1", "base": "b"}
    assert parse("pod/p") == {"ref": pb.ObjectRef(api_version="v1", kind="Pod", namespace="ns", name="p")}


@pytest.mark.parametrize("text", ["", "pod", "pod/", "/p", "Pod/p", "pod/a/b", "service/s"])
def test_other_targets_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be waited for"):
        parse_target(text, base="", namespace="default")
