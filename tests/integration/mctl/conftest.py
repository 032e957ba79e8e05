from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.__main__ import main
from tests.fakes.tooling import FakeTooling, ToolingServer


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Mctl = Callable[..., Outcome]


def vnode(base: str, *, ready: bool = True, **labels: str) -> pb.VNode:
    return pb.VNode(
        name=f"vnode.{base}.dev",
        base=base,
        cluster_name="default",
        version="1.0.0",
        tunnel="http",
        state=pb.V_NODE_STATE_READY if ready else pb.V_NODE_STATE_UNREACHABLE,
        ready=ready,
        owner="replica-0",
        modules=1,
        labels=labels,
    )


def module(base: str, name: str = "biz1", version: str = "0.0.1", *, ready: bool = True) -> pb.Module:
    return pb.Module(
        vnode=f"vnode.{base}.dev",
        name=name,
        version=version,
        state="ACTIVATED" if ready else "BROKEN",
        ready=ready,
        namespace="default",
        pod=f"{name}-{base}",
        reason="" if ready else "StartFailed",
        message="" if ready else "port in use",
    )


@pytest.fixture
def fake() -> FakeTooling:
    return FakeTooling()


@pytest.fixture
def server(fake: FakeTooling) -> Iterator[ToolingServer]:
    with ToolingServer(fake) as running:
        yield running


@pytest.fixture
def mctl(server: ToolingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mctl:
    monkeypatch.setenv("MCTL_SERVER", server.address)

    def run(*argv: str) -> Outcome:
        code = main(list(argv))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
