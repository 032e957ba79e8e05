"""Stopped and blocked processes are replaced, slow ones are not."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from modulecontroller.children import Child, Patience, Program
from service.process import StartError
from service.watchdog import STACKS_LOOKS
from tests.integration.modulecontroller import busy, hanging
from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import Programs, SimulatedBase, ask, eventually, status
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.cluster import KubeCluster

ROOT = Path(__file__).parents[3]
SHORT = Patience(start=20.0, silence=1.0, answer=0.25, stop=5.0, stop_silent=0.5)
NODE = "/api/v1/nodes/vnode.b.dev"


@asynccontextmanager
async def child(folder: Path, how: str, patience: Patience = SHORT) -> AsyncIterator[Child]:
    program = Program(how, hanging.__name__, {"PYTHONPATH": str(ROOT)}, (str(folder), how))
    # Not in pytest's folder, whose names are longer than those of sockets may be.
    with tempfile.TemporaryDirectory() as sockets:
        child = Child(program, sockets, patience)
        running = asyncio.create_task(child.run())
        try:
            async with asyncio.timeout(30):
                await asyncio.wait({running, asyncio.create_task(child.started.wait())}, return_when="FIRST_COMPLETED")
            if running.done():
                running.result()
            yield child
        finally:
            async with asyncio.timeout(20):
                running.cancel()
                await asyncio.wait({running})


async def soon(what: str, look: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not look():  # noqa: ASYNC110 - processes have no event for it
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def processes(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


async def test_a_blocked_process_is_replaced_and_prints_its_stack(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with child(tmp_path, "blocks") as blocked:
        (first,) = processes(tmp_path)
        await soon("trouble", lambda: blocked.liveness.trouble)
        assert blocked.liveness.trouble.startswith("has not answered for ")
        await soon("restarted", lambda: blocked.restarts)
        await soon("it works again", lambda: not blocked.liveness.trouble and blocked.liveness.answered)
        assert blocked.restarts == {"silent": 1}
        assert not alive(first)
        assert len(processes(tmp_path)) == 2
    assert "in stand_still" in capfd.readouterr().err


async def test_a_stopped_process_is_replaced_and_its_state_is_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with child(tmp_path, "works") as stopped:
            os.kill(processes(tmp_path)[0], signal.SIGSTOP)
            await soon("restarted", lambda: stopped.restarts)
            await soon("it works again", lambda: stopped.liveness.answered)
            assert stopped.restarts == {"silent": 1}
    (replaced,) = [line for line in logs if line["event"] == "child does not answer and is replaced"]
    assert replaced["state"] == "T (stopped)"


async def test_a_process_that_never_answers_ends_the_whole(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="silent did not answer within 5 s of its start"):
        async with child(tmp_path, "silent", Patience(start=5.0, silence=1.0, answer=0.25, stop_silent=0.5)):
            raise AssertionError("it never answers")
    (pid,) = processes(tmp_path)
    assert not alive(pid)


async def test_a_slow_start_is_no_hang(tmp_path: Path) -> None:
    async with child(tmp_path, "slow") as slow:
        assert SHORT.silence < hanging.SLOW
        os.kill(processes(tmp_path)[0], signal.SIGKILL)
        await soon("restarted", lambda: slow.restarts)
        await soon("it works again", lambda: slow.liveness.answered)
        assert slow.restarts == {"ended": 1}


async def test_a_supervisor_that_was_blocked_itself_replaces_no_child(tmp_path: Path) -> None:
    async with child(tmp_path, "works") as healthy:
        for _ in range(3):
            time.sleep(SHORT.silence * 1.5)  # noqa: ASYNC251 - this is what is tested
            await asyncio.sleep(SHORT.answer * 1.5)
        assert not healthy.restarts
        assert healthy.liveness.answered


async def test_a_hung_process_does_not_keep_the_others_from_ending(tmp_path: Path) -> None:
    async with child(tmp_path, "works", Patience(silence=60.0, stop=1.0)):
        (pid,) = processes(tmp_path)
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


def test_a_program_that_was_paused_goes_on_as_if_nothing_had_been(programs: Programs) -> None:
    server = programs.program("busy", busy.__name__, environ={"PYTHONPATH": str(ROOT)})
    server.start()
    server.wait_until(lambda: "works" in server.log.read_text(), within=30.0)
    for _ in range(10):
        server.signal(signal.SIGSTOP)
        time.sleep(2 * STACKS_LOOKS * busy.LOOK_EVERY)
        server.signal(signal.SIGCONT)
        time.sleep(0.1)
    assert server.running
    server.stop()
    assert "where all threads are" not in server.log.read_text()


def test_a_control_plane_that_hangs_is_replaced_and_livez_says_so(programs: Programs, kube: KubeCluster) -> None:
    controller = ModuleController(
        programs,
        environ={
            "CLUSTER": "kubernetes",
            "KUBECONFIG": str(kube.kubeconfig("controlplane")),
            "NAMESPACE": SYSTEM_NAMESPACE,
        },
    ).start()
    SimulatedBase(programs, controller.url("", "HTTP_TUNNEL_LISTEN_PORT"), "b").start()
    controller.mctl("wait", "--for=ready", "vnode/b", "--timeout", "30s")
    node = kube.api.get(NODE)["metadata"]["uid"]
    hung, gateway = controller.pid("controlplane"), controller.pid("gateways.http")
    os.kill(hung, signal.SIGSTOP)
    eventually(lambda: not controller.ready(), within=15.0, what="not ready")
    assert ask(controller.url("/livez")) == (200, "ok\n")
    eventually(lambda: status(controller.url("/livez")) == 503, within=60.0, what="livez reports it")
    assert ask(controller.url("/livez")) == (503, "controlplane: has not answered for 30 s\n")
    eventually(
        lambda: status(controller.url("/livez")) == 200 and controller.ready(),
        within=60.0,
        what="livez and readyz say ok again",
    )
    assert controller.pid("controlplane") != hung
    assert controller.pid("gateways.http") == gateway
    metrics = controller.metrics()
    assert 'koupleless_child_restarts_total{cause="silent",program="controlplane"} 1.0' in metrics
    assert 'koupleless_child_restarts_total{cause="silent",program="http-gateway"} 0.0' in metrics
    controller.mctl("wait", "--for=ready", "vnode/b", "--timeout", "30s")
    assert kube.api.get(NODE)["metadata"]["uid"] == node
