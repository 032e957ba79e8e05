"""Strangers at the ports for health, metrics and reports cost others nothing, whatever they send or leave open."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.programs import ControlPlane, MqttGateway, Programs, ask, eventually, status
from tests.security.attackers import malformed
from tests.security.attackers.crowds import crowd, open_from

LIMIT = 1024
"""File descriptors, as where the hard limit is that low."""
MANY = 1_224
"""Idle connections: more than there are descriptors."""


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Programs(tmp_path) as programs:
        yield programs


@pytest.fixture
def intake(programs: Programs) -> int:
    """The port of the report intake."""
    return programs.port()


@pytest.fixture
def control_plane(programs: Programs, intake: int) -> ControlPlane:
    environ = {"EMBEDDED_DB": str(programs.folder / "cluster.db"), "STATUS_HOST": "127.0.0.1"}
    return ControlPlane(programs, **environ, REPORT_PORT=str(intake)).start()


def answers(control_plane: ControlPlane) -> bool:
    """Whether probes, Prometheus and tools are answered, each within a second."""
    began = time.monotonic()
    urls = (f"http://127.0.0.1:{control_plane.health}/livez", f"http://127.0.0.1:{control_plane.metrics}/metrics")
    return all(status(url) == 200 for url in urls) and time.monotonic() - began < 2.0


def refused(control_plane: ControlPlane, listener: str, reason: str) -> float:
    _, text = ask(f"http://127.0.0.1:{control_plane.metrics}/metrics")
    name = f'koupleless_listener_refused_total{{listener="{listener}",reason="{reason}"}}'
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize(
    "crowded", [("health",), ("metrics",), ("reports",), ("health", "metrics", "reports")], ids=str
)
def test_more_idle_connections_than_descriptors_freeze_nothing(
    control_plane: ControlPlane, intake: int, crowded: tuple[str, ...]
) -> None:
    resource.prlimit(control_plane.server.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    ports = {"health": control_plane.health, "metrics": control_plane.metrics, "reports": intake}
    with ExitStack() as stack:
        for listener in crowded:
            stack.enter_context(crowd(ports[listener], MANY))
        assert answers(control_plane)
        control_plane.mctl()("get", "vnodes")
        for listener in crowded:
            assert refused(control_plane, listener, "connections") > 0
        assert len(list(Path(f"/proc/{control_plane.server.pid}/fd").iterdir())) < LIMIT - 128
    assert answers(control_plane)


def test_strangers_of_the_same_address_do_not_lock_out_probes(control_plane: ControlPlane) -> None:
    with ExitStack() as stack:
        held = open_from(stack, "127.0.0.1", control_plane.health, 300)
        assert len(held) == 300
        for _ in range(20):
            assert status(f"http://127.0.0.1:{control_plane.health}/livez") == 200
    assert refused(control_plane, "health", "connections") > 200


def test_whoever_is_slow_is_disconnected(control_plane: ControlPlane) -> None:
    with ExitStack() as stack:
        (silent, dripping) = open_from(stack, "127.0.0.2", control_plane.health, 2)
        began = time.monotonic()
        for byte in b"GET /livez HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
            try:
                dripping.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.4)
        else:
            pytest.fail("a head that drips is read without end")
        assert 5.0 < time.monotonic() - began < 20.0
        silent.settimeout(10.0)
        with suppress(ConnectionError):
            assert silent.recv(1) == b""
    assert refused(control_plane, "health", "timeout") == 2


def test_what_is_no_request_is_counted_and_logged_once_a_minute(control_plane: ControlPlane, intake: int) -> None:
    malformed.send((control_plane.health, control_plane.metrics, intake), 60)
    assert answers(control_plane)
    eventually(lambda: refused(control_plane, "health", "not_http") > 0, within=5.0, what="counted")
    assert refused(control_plane, "reports", "not_http") + refused(control_plane, "reports", "cut") > 0
    text = control_plane.server.log.read_text()
    assert "Traceback" not in text
    assert '"exception"' not in text
    assert not any(refused(control_plane, listener, "defect") for listener in ("health", "metrics", "reports"))
    assert text.count("request refused") <= 3, "one line for each listener and address"


def test_every_program_raises_its_limit_of_files(programs: Programs) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(LIMIT, most - 1), most))
    control_plane = ControlPlane(programs, EMBEDDED_DB=str(programs.folder / "cluster.db")).start()
    gateway = MqttGateway(programs, control_plane.address, programs.port())
    gateway.server.start()
    live = f"http://127.0.0.1:{gateway.health}/livez"
    gateway.server.wait_until(lambda: status(live) == 200, within=60.0)
    for pid in (control_plane.server.pid, gateway.server.pid):
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (most, most)


def test_without_a_token_reports_are_taken_on_loopback_alone(programs: Programs, intake: int) -> None:
    database = str(programs.folder / "cluster.db")
    control_plane = ControlPlane(programs, EMBEDDED_DB=database, REPORT_PORT=str(intake)).start()
    assert ask(f"http://127.0.0.1:{intake}/log", method="POST", body=b'{"message": "m"}')[0] == 200
    # 127.0.0.2 stands for any other address of this machine.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", intake), timeout=5.0)
    assert "taken from this machine alone: REPORT_TOKEN is not set" in control_plane.server.log.read_text()
