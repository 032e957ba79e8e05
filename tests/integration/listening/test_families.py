"""Every port is reached over IPv4 and IPv6, unless a setting or the kernel says otherwise."""

import platform
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.listening import without
from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import HttpGateway, Programs, SimulatedBase, eventually
from tests.servers.process import Server

LOOPBACK = {"IPv4": (socket.AF_INET, "127.0.0.1"), "IPv6": (socket.AF_INET6, "::1")}
BOTH = {"IPv4", "IPv6"}
PORTS = ("HEALTH_PORT", "METRICS_PORT", "REPORT_PORT", "HTTP_TUNNEL_LISTEN_PORT", "GRPC_PORT")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
filtered = pytest.mark.skipif(
    platform.machine() not in without.SYSCALL, reason=f"the filter is not written for {platform.machine()}"
)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as programs:
        yield programs


def families(port: int) -> set[str]:
    """Return over which families something accepts connections to a port."""
    found = set()
    for name, (family, address) in LOOPBACK.items():
        with socket.socket(family) as tried:
            tried.settimeout(5.0)
            if tried.connect_ex((address, port)) == 0:
                found.add(name)
    return found


def listens(controller: ModuleController, port: str, *expected: str) -> None:
    number = controller.ports[port]
    eventually(lambda: families(number), within=60.0, what=f"{port} is listened on")
    assert families(number) == set(expected), port


def started(controller: ModuleController) -> ModuleController:
    """Start it and wait until its last part, the gateway, listens."""
    controller.server.start()
    port = controller.ports["HTTP_TUNNEL_LISTEN_PORT"]
    controller.server.wait_until(lambda: bool(families(port)), within=60.0)
    return controller


def test_all_ports_are_reached_over_both(programs: Programs) -> None:
    everywhere = {"HTTP_TUNNEL_LISTEN_HOST": "", "GRPC_HOST": "::", "GRPC_INSECURE": "true"}
    controller = started(ModuleController(programs, environ=everywhere))
    for port in PORTS:
        listens(controller, port, *BOTH)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::", BOTH), ("[::]", BOTH), ("0.0.0.0", {"IPv4"}), ("127.0.0.1", {"IPv4"}), ("::1", {"IPv6"})],
)
def test_a_host_that_is_set_is_listened_on(programs: Programs, host: str, expected: set[str]) -> None:
    controller = started(
        ModuleController(programs, environ={"HTTP_TUNNEL_LISTEN_HOST": host, "STATUS_HOST": host, "GRPC_HOST": "::1"})
    )
    for port in ("HEALTH_PORT", "METRICS_PORT", "REPORT_PORT", "HTTP_TUNNEL_LISTEN_PORT"):
        listens(controller, port, *expected)
    listens(controller, "GRPC_PORT", "IPv6")
    # Its gateway reaches gRPC at the address that it listens on.
    eventually(lambda: "gateway connected" in controller.server.log.read_text(), within=10.0, what="gateway connected")


def test_a_gateway_by_itself_has_its_probes_on_both(programs: Programs) -> None:
    gateway = HttpGateway(programs, "127.0.0.1:1")
    gateway.server.start()
    gateway.server.wait_until(lambda: bool(families(gateway.port)), within=60.0)
    assert families(gateway.port) == BOTH
    assert families(gateway.health) == BOTH


def test_a_base_is_managed_over_ipv6(programs: Programs) -> None:
    environ = {"HTTP_TUNNEL_LISTEN_HOST": "", "HTTP_TUNNEL_ALLOWED_CIDRS": "::1/128"}
    controller = started(ModuleController(programs, environ=environ))
    url = f"http://[::1]:{controller.ports['HTTP_TUNNEL_LISTEN_PORT']}"
    base = SimulatedBase(programs, url, "six", ip="::1").start()
    controller.mctl("wait", "--for=ready", "vnode/six", "--timeout", "30s")
    controller.mctl("install", "biz1", "--version", "1", "--url", "https://repo.example/biz1.jar", "--base", "six")
    eventually(lambda: base.modules() == {"biz1:1": "activated"}, within=30.0, what="the module")


def test_an_address_of_another_machine_is_named(programs: Programs) -> None:
    controller = ModuleController(programs, environ={"STATUS_HOST": "192.0.2.1"})
    ended = controller.once()
    assert ended.returncode == 1
    assert f"cannot start: HEALTH_PORT={controller.ports['HEALTH_PORT']} on 192.0.2.1: cannot listen" in ended.stderr
    assert "name an address of this machine" in ended.stderr


@filtered
@pytest.mark.parametrize(("lacking", "remaining"), [("INET6", "IPv4"), ("INET", "IPv6")])
def test_a_family_that_the_kernel_lacks_is_left_out(programs: Programs, lacking: str, remaining: str) -> None:
    controller = ModuleController(
        programs, environ={"HTTP_TUNNEL_LISTEN_HOST": "", "GRPC_HOST": "::", "GRPC_INSECURE": "true"}
    )
    environ = {**controller.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    controller.server = programs.program(
        "module-controller", without.__name__, lacking, "modulecontroller", environ=environ
    )
    started(controller)
    for port in ("HEALTH_PORT", "METRICS_PORT", "REPORT_PORT", "HTTP_TUNNEL_LISTEN_PORT"):
        listens(controller, port, remaining)
    assert remaining in families(controller.ports["GRPC_PORT"])
    logged(controller.server, f'"listening_on":["{remaining}"]')


def logged(server: Server, text: str) -> None:
    eventually(lambda: text in server.log.read_text().replace(", ", ","), within=10.0, what=text)
