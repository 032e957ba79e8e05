from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from mctl.commands.wait import Condition, until
from mctl.errors import TimedOut, Unreachable, Usage
from mctl.rpc.client import Client
from mctl.rpc.connection import Connection
from mctl.targets import ModuleTarget, ObjectTarget, Standing, VNodeTarget, parse_target

ABSENT = Standing(present=False, ready=False, why="is not there")
STARTING = Standing(present=True, ready=False, why="is starting")
READY = Standing(present=True, ready=True)


@dataclass
class Script:
    """A target that goes through standings, one a look, and stays in the last."""

    title: str
    standings: list[Standing]
    looks: list[float] = field(default_factory=list)

    def look(self, client: Client, timeout: float) -> Standing:
        self.looks.append(timeout)
        return self.standings.pop(0) if len(self.standings) > 1 else self.standings[0]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1.0
        self.now += seconds


@contextmanager
def waiting() -> Iterator[tuple[Client, Clock]]:
    connection = Connection("127.0.0.1:1", 1.0)
    yield Client(connection), Clock()
    connection.close()


def run(targets: list[Script], condition: Condition, timeout: float = 10.0) -> tuple[list[str], float]:
    told: list[str] = []
    with waiting() as (client, clock):
        until(client, targets, condition, timeout, told=told.append, clock=clock, sleep=clock.sleep)
        return told, clock.now


def test_each_target_is_told_when_it_is_ready_and_not_asked_again() -> None:
    quick, slow = Script("pod/a", [READY]), Script("pod/b", [ABSENT, STARTING, READY])
    told, _ = run([slow, quick], Condition.READY)
    assert told == ["pod/a ready", "pod/b ready"]
    assert (len(quick.looks), len(slow.looks)) == (1, 3)


def test_gone_means_not_there() -> None:
    assert run([Script("pod/a", [READY, STARTING, ABSENT])], Condition.GONE)[0] == ["pod/a gone"]


def test_time_out_names_all_that_is_missing_and_why() -> None:
    with pytest.raises(TimedOut) as caught:
        run([Script("pod/a", [STARTING]), Script("pod/b", [READY]), Script("pod/c", [ABSENT])], Condition.READY, 3.0)
    assert caught.value.lines == (
        "timed out after 3s: pod/a is starting",
        "timed out after 3s: pod/c is not there",
    )


def test_every_look_is_bounded_by_the_deadline() -> None:
    target = Script("pod/a", [STARTING])
    with pytest.raises(TimedOut):
        run([target], Condition.READY, 5.0)
    assert all(1.0 <= timeout <= 5.0 for timeout in target.looks)
    assert 5 < len(target.looks) < 60


def test_an_unreachable_server_ends_the_wait() -> None:
    class Away(Script):
        def look(self, client: Client, timeout: float) -> Standing:
            raise Unreachable("away")

    with pytest.raises(Unreachable):
        run([Away("pod/a", [])], Condition.GONE)


def test_targets() -> None:
    def parse(text: str) -> object:
        return parse_target(text, base="b", namespace="ns")

    assert parse("vnode/x") == VNodeTarget("x")
    assert parse("module/biz1") == ModuleTarget("biz1", "", "b")
    assert parse("module/biz1:0.0.1") == ModuleTarget("biz1", "0.0.1", "b")
    pod = parse("pod/p")
    assert isinstance(pod, ObjectTarget)
    assert (pod.ref.api_version, pod.ref.object_kind, pod.ref.namespace, pod.ref.name) == ("v1", "Pod", "ns", "p")


@pytest.mark.parametrize("text", ["", "pod", "pod/", "/p", "Pod/p", "pod/a/b", "service/s"])
def test_no_targets(text: str) -> None:
    with pytest.raises(Usage, match="cannot be waited for"):
        parse_target(text, base="", namespace="default")
