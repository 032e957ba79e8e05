"""A gateway with a good token of its own takes over no other, and is not believed about bases that others poll."""

import time
from functools import partial

import grpc
import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.domain.base.sources import AHEAD
from controlplane.domain.ownership.lease import first_fence
from tests.integration.tunnel_session.stream import Stream
from tests.programs import ControlPlane, HttpGateway, Programs, SimulatedBase, ask, eventually, throughout

pytestmark = pytest.mark.timeout(120)

URL = "https://repo.example/m.jar"
TOKENS = {role: f"{role}-" * 4 for role in ("admin", "gateway", "rogue")}


@pytest.fixture
def control_plane(programs: Programs) -> ControlPlane:
    """A control plane that knows two gateways, each by a token of its own."""
    path = programs.folder / "koupleless-module-controller" / "tokens.csv"
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    roles = {"admin": "admin", "gateway": "gateway", "rogue": "gateway"}
    path.write_text("".join(f"{TOKENS[user]},{user},{role}\n" for user, role in roles.items()))
    return ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=str(programs.folder / "cluster.db")).start()


def refused(control_plane: ControlPlane, series: str) -> float:
    _, text = ask(f"http://127.0.0.1:{control_plane.metrics}/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))


def counted(control_plane: ControlPlane, series: str, expected: float) -> bool:
    return refused(control_plane, series) == expected


def rogue(control_plane: ControlPlane, gateway: str) -> Stream:
    hello = pb.Hello(gateway_id=gateway, instance_id="r", tunnel=pb.TUNNEL_KIND_HTTP, env="dev", version="0.0.0")
    return Stream(control_plane.channel_of(TOKENS["rogue"]), pb.ConnectRequest(hello=hello))


BEYOND = first_fence(time.time(), 0) + 2 * AHEAD
LIES = {
    "not-asked": (
        pb.Report(base_id="b1", modules=pb.Modules(complete=True, epoch=1 << 40)),
        pb.Report(base_id="b1", health=pb.Health(state=pb.BASE_STATE_DEACTIVATED)),
        pb.Report(base_id="b1", poll_failed=pb.PollFailed(reason="gone", failure=pb.POLL_FAILURE_NOT_CONNECTED)),
    ),
    "fence": (pb.Report(base_id="b1", fence_seen=pb.FenceSeen(fence=BEYOND)),),
}
"""What is said of a base, by the reason for which it is not believed."""


def test_a_rogue_gateway_changes_nothing_of_others(programs: Programs, control_plane: ControlPlane) -> None:
    gateway = HttpGateway(programs, control_plane.address).start()
    base, mctl = SimulatedBase(programs, gateway.url, "b1").start(), control_plane.mctl()
    mctl("wait", "--for=ready", "vnode/b1", "--timeout", "30s")
    mctl("install", "biz1", "--version", "1.0.0", "--url", URL, "--base", "b1")
    mctl("wait", "--for=ready", "module/biz1:1.0.0", "--timeout", "30s")
    base.control("hang?command=installBiz")
    mctl("install", "biz2", "--version", "1.0.0", "--url", URL, "--base", "b1")
    eventually(lambda: base.commands("installBiz")[1:], within=20, what="an install under way")

    with rogue(control_plane, "http-gateway") as stream:
        code, text = stream.status()
        assert (code, "another user has a session of this gateway" in text) == (grpc.StatusCode.PERMISSION_DENIED, True)
    assert refused(control_plane, 'koupleless_grpc_refused_total{reason="gateway_id"}') == 1

    def seen() -> dict[str, str]:
        """Return the states of VNodes and modules as tools see them."""
        return {each["name"]: each["state"] for what in ("vnodes", "modules") for each in mctl.items("get", what)}

    before = seen()
    assert before == {"vnode.b1.dev": "Ready", "biz1": "ACTIVATED", "biz2": "ABSENT"}
    with rogue(control_plane, "rogue") as stream:
        stream.next("welcome")
        for _ in range(5):
            stream.send(
                pb.ConnectRequest(reports=pb.Reports(seq=1, reports=[each for of in LIES.values() for each in of]))
            )
            done = pb.Reply(code=pb.REPLY_CODE_SUCCESS)
            result = pb.Report(base_id="b1", order_result=pb.OrderResult(order_id="f" * 32, reply=done))
            stream.send(pb.ConnectRequest(reports=pb.Reports(seq=2, reports=[result])))
        for reason, lies in LIES.items():
            series, expected = f'koupleless_refused_reports_total{{reason="{reason}"}}', 5 * len(lies)
            eventually(partial(counted, control_plane, series, expected), within=10, what=f"refused: {reason}")
        throughout(lambda: seen() == before, seconds=3, what="undisturbed")
        assert {each["id"] for each in mctl.items("get", "gateways")} == {"http-gateway", "rogue"}
    mctl("uninstall", "biz1", "--version", "1.0.0", "--base", "b1")
    eventually(lambda: "biz1:1.0.0" not in base.modules(), within=20, what="orders reach the base as before")
