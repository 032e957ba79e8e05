"""Rows 7 and 14: more connections to gRPC than there are descriptors; others go on, and new callers come through."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from tests import bearer
from tests.certificates import issued
from tests.programs import ControlPlane, Programs, ask, eventually, status
from tests.security.attackers.crowds import PREFACE, crowd

FILES = 1024
"""File descriptors, as where the hard limit is low."""
MANY = 1_536
WITHIN = 10.0
"""Seconds in which a call must have come through."""


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path, FILES) as programs:
        yield programs


def plain(control_plane: ControlPlane, _folder: Path) -> grpc.Channel:
    return grpc.insecure_channel(control_plane.address)


def secure(control_plane: ControlPlane, folder: Path) -> grpc.Channel:
    return grpc.secure_channel(
        control_plane.address,
        grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes()),
        [("grpc.ssl_target_name_override", "127.0.0.1")],
    )


def descriptors(control_plane: ControlPlane) -> int:
    return len(list(Path(f"/proc/{control_plane.server.pid}/fd").iterdir()))


def refused(control_plane: ControlPlane) -> float:
    _, text = ask(f"http://127.0.0.1:{control_plane.metrics}/metrics")
    name = 'koupleless_listener_refused_total{listener="grpc",reason="connections"}'
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("addresses", [1, 12])
@pytest.mark.parametrize("connect", [plain, secure])
def test_idle_connections_keep_nobody_out(
    programs: Programs, connect: Callable[[ControlPlane, Path], grpc.Channel], addresses: int
) -> None:
    folder, tls = programs.folder, connect is secure
    if tls:
        issued(folder)
    files = {"GRPC_CRT_PATH": str(folder / "tls.crt"), "GRPC_KEY_PATH": str(folder / "tls.key")} if tls else {}
    control_plane = ControlPlane(programs, EMBEDDED_DB=str(folder / "cluster.db"), **files).start()
    token = bearer.Bearer(bearer.token_of(folder))
    with connect(control_plane, folder) as before:
        watch = ModuleControllerServiceStub(grpc.intercept_channel(before, token)).WatchVNodes(pb.WatchVNodesRequest())
        next(watch)
        # In TLS, what is said is no handshake: such connections end by themselves.
        with crowd(control_plane.grpc, MANY, addresses=addresses, says=b"" if tls else PREFACE):
            assert descriptors(control_plane) < FILES // 4
            with connect(control_plane, folder) as after:
                stub = ModuleControllerServiceStub(grpc.intercept_channel(after, token))
                stub.ListVNodes(pb.ListVNodesRequest(), timeout=WITHIN, wait_for_ready=True)
            assert status(f"http://127.0.0.1:{control_plane.health}/livez") == 200
            eventually(lambda: refused(control_plane) > 0, within=WITHIN, what="counted")
        assert watch.is_active(), "who called before is not sent away"
        watch.cancel()
    log = control_plane.server.log.read_text()
    assert 0 < log.count("request refused") <= addresses
    assert "descriptor limit" not in log
