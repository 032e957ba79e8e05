"""A process without memory, or whose event loop stands still, ends with a message; its supervisor starts it again."""

import os
import resource
import signal
import stat
import time
from pathlib import Path

import pytest

from service.watchdog import EXIT_CANNOT_GO_ON, RESERVE
from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import ControlPlane, HttpGateway, MqttGateway, Programs, SimulatedBase, ask, eventually, status
from tests.security import standing
from tests.servers.process import Server

MESSAGE = "the process ends: no memory is left"
ENDS = {
    EXIT_CANNOT_GO_ON: MESSAGE,
    -signal.SIGABRT: "Fatal Python error: Aborted",
    -signal.SIGSEGV: "Fatal Python error: Segmentation fault",
    127: "cannot allocate memory for thread-local data: ABORT",
}
"""What a process ends with and what stands in its log then. gRPC's core aborts, or does without a look, where it is the
first to find no memory; faulthandler shows where. The dynamic loader ends a process whose new thread finds none."""


def take_memory(pid: int) -> None:
    """Let a process have hardly more address space than it has: enough to go on for a moment."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + RESERVE // 2
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


def exit_code(server: Server, *, within: float) -> int:
    """Return what a program ended with by itself."""
    eventually(lambda: not server.running, within=within, what=f"{server.name} ends")
    ended = os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def started(programs: Programs, name: str) -> Server:
    """Start one program, by itself and without others that it would talk to."""
    nowhere = f"127.0.0.1:{programs.port()}"
    match name:
        case "controlplane":
            return ControlPlane(programs, EMBEDDED_DB=str(programs.folder / "cluster.db")).start().server
        case "simulated-base":
            return SimulatedBase(programs, f"http://{nowhere}", "b").start().server
        case "http-gateway":
            gateway: HttpGateway | MqttGateway = HttpGateway(programs, nowhere)
        case "mqtt-gateway":
            gateway = MqttGateway(programs, nowhere, programs.port())
        case _:
            raise AssertionError(name)
    gateway.server.start()
    live = f"http://127.0.0.1:{gateway.health}/livez"
    gateway.server.wait_until(lambda: status(live) == 200, within=60.0)
    return gateway.server


@pytest.mark.parametrize("name", ["controlplane", "http-gateway", "mqtt-gateway", "simulated-base"])
def test_a_program_without_memory_ends_with_a_message(programs: Programs, name: str) -> None:
    server = started(programs, name)
    take_memory(server.pid)
    assert ENDS[exit_code(server, within=15.0)] in server.log.read_text()


def test_the_supervisor_starts_again_what_ran_out_of_memory(programs: Programs) -> None:
    controller = ModuleController(programs).start()
    exhausted = {module: controller.pid(module) for module in ("controlplane", "gateways.http")}
    for pid in exhausted.values():
        take_memory(pid)
    eventually(
        lambda: not set(exhausted.values()) & set(controller.processes()), within=15.0, what="both processes end"
    )
    eventually(controller.ready, within=60.0, what="ready again")
    log = controller.server.log.read_text()
    assert sum(map(log.count, ENDS.values())) == 2
    for program in ("controlplane", "http-gateway"):
        restarts = f'koupleless_child_restarts_total{{cause="ended",program="{program}"}} 1.0'
        assert restarts in controller.metrics()
    # The supervisor itself is no exception, and leaves nothing behind.
    take_memory(controller.server.pid)
    assert exit_code(controller.server, within=15.0) in ENDS
    eventually(lambda: len(controller.processes()) <= 1, within=30.0, what="no child is left")


@pytest.mark.parametrize("how", standing.HOW)
def test_sigterm_ends_a_program_whose_event_loop_stands_still(programs: Programs, how: str) -> None:
    server = programs.program("standing", standing.__name__, how, environ={"PYTHONPATH": os.getcwd()})
    server.start()
    server.wait_until(lambda: "stands still" in server.log.read_text(), within=30.0)
    time.sleep(1.0)
    assert server.running
    server.signal(signal.SIGTERM)
    assert exit_code(server, within=30.0) == EXIT_CANNOT_GO_ON
    text = server.log.read_text()
    assert "its event loop does not turn" in text
    assert f"in {how}" in text, "the stack says where"


def test_what_programs_write_is_their_owners_alone(programs: Programs) -> None:
    state, logs = programs.folder / "state", programs.folder / "logs"
    config = programs.folder / "tracker.yaml"
    config.write_text(f"logDir: {logs}\nreportLevel: debug\n")
    logs.mkdir(mode=0o700)
    port = programs.port()
    environ = {"CLUSTER": "embedded", "EMBEDDED_DB": str(state / "deep" / "cluster.db")}
    control_plane = ControlPlane(programs, **environ, TRACKER_CONFIG_PATH=str(config), REPORT_PORT=str(port)).start()
    gateway = HttpGateway(programs, control_plane.address).start()
    SimulatedBase(programs, gateway.url, "b").start()
    made = [state, *state.rglob("*")]
    assert {path.name for path in made} >= {"state", "deep", "cluster.db", "cluster.db-wal"}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made if path.is_dir()} == {"0o700"}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made if path.is_file()} == {"0o600"}
    # A file of an earlier version is closed when it is opened.
    control_plane.server.stop()
    database = state / "deep" / "cluster.db"
    database.chmod(0o644)
    control_plane.start()
    assert oct(stat.S_IMODE(database.stat().st_mode)) == "0o600"
    assert ask(f"http://127.0.0.1:{control_plane.health}/readyz")[0] == 200
