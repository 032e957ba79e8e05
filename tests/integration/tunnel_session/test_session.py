"""A control plane handles the sessions of gateways: handshake, acknowledgements, refusals, replacement, loss."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.modulecontroller.v1 import module_controller_pb2 as tooling
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc as tooling_grpc
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from tests.integration.tunnel_session.stream import Stream
from tests.programs import ControlPlane, Programs, ask, eventually


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder: Path = tmp_path_factory.mktemp("tunnel-session")
    with Programs(folder) as programs:
        yield ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=str(folder / "cluster.db")).start()


HERE = pb.Address(ip="127.0.0.1", port=1238)
LATE = pb.Module(name="biz1", version="1", state=pb.MODULE_STATE_ACTIVATED, changed_at=Timestamp(seconds=2**62))


def hello(gateway: str = "g", instance: str = "1", env: str = "dev") -> pb.ConnectRequest:
    return pb.ConnectRequest(
        hello=pb.Hello(gateway_id=gateway, instance_id=instance, tunnel=pb.TUNNEL_KIND_HTTP, env=env, version="test")
    )


def heartbeat(identity: str, port: int = 1238, seq: int = 1, ip: str = "127.0.0.1") -> pb.ConnectRequest:
    heartbeat = pb.Heartbeat(
        name="shop",
        version="1",
        cluster_name="default",
        host_name="h",
        address=pb.Address(ip=ip, port=port),
        state=pb.BASE_STATE_ACTIVATED,
    )
    report = pb.Report(base_id=identity, heartbeat=heartbeat)
    return pb.ConnectRequest(reports=pb.Reports(seq=seq, reports=[report]))


def gateways(control_plane: ControlPlane) -> dict[str, tooling.Gateway]:
    with control_plane.channel() as channel:
        stub = tooling_grpc.ModuleControllerServiceStub(channel)
        return {g.id: g for g in stub.ListGateways(tooling.ListGatewaysRequest(), timeout=5).items}


@pytest.mark.parametrize(
    ("first", "code", "message"),
    [
        (heartbeat("b"), grpc.StatusCode.INVALID_ARGUMENT, "Hello"),
        (pb.ConnectRequest(), grpc.StatusCode.INVALID_ARGUMENT, "Hello"),
        (hello(env="prod"), grpc.StatusCode.FAILED_PRECONDITION, "ENV=prod"),
        (hello(gateway=""), grpc.StatusCode.INVALID_ARGUMENT, "gateway_id"),
        (hello(gateway="x" * 300), grpc.StatusCode.INVALID_ARGUMENT, "gateway_id"),
        (hello(instance=""), grpc.StatusCode.INVALID_ARGUMENT, "instance_id"),
        (
            pb.ConnectRequest(hello=pb.Hello(gateway_id="g", instance_id="1", env="dev")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "tunnel",
        ),
    ],
)
def test_a_wrong_handshake_is_refused(
    control_plane: ControlPlane, first: pb.ConnectRequest, code: grpc.StatusCode, message: str
) -> None:
    with Stream(control_plane.channel("gateway"), first) as stream:
        got, details = stream.status()
        assert got is code
        assert message in details


def test_reports_are_acknowledged_and_a_base_is_claimed_and_watched(control_plane: ControlPlane) -> None:
    with Stream(control_plane.channel("gateway"), hello()) as stream:
        welcome = stream.next("welcome").welcome
        assert welcome.replica_id == "controlplane"
        assert welcome.limits.max_batch > 0
        stream.send(heartbeat("claimed-base", seq=7))
        assert stream.next("reports_ack").reports_ack.seq == 7
        claim = stream.next("claim").claim
        watch = stream.next("watch").watch
        assert (claim.base_id, watch.base_id) == ("claimed-base", "claimed-base")
        assert claim.fence == watch.fence > 0
        assert (watch.address.ip, watch.address.port) == ("127.0.0.1", 1238)
        stream.send(pb.ConnectRequest(goodbye=pb.Goodbye(reason="test")))
        assert stream.status()[0] is grpc.StatusCode.OK
    eventually(lambda: "g" not in gateways(control_plane), within=5, what="the gateway removed")


def test_hostile_reports_are_taken_counted_and_change_nothing(control_plane: ControlPlane) -> None:
    before = control_plane.bases()
    reports = [
        pb.Report(),
        pb.Report(base_id="UPPER", heartbeat=pb.Heartbeat()),
        pb.Report(base_id="", heartbeat=pb.Heartbeat()),
        pb.Report(base_id="a" * 300, heartbeat=pb.Heartbeat()),
        pb.Report(base_id="x", heartbeat=pb.Heartbeat(state=pb.BASE_STATE_UNKNOWN, address=HERE)),
        pb.Report(base_id="x", heartbeat=pb.Heartbeat(state=pb.BASE_STATE_DEACTIVATED, address=HERE)),
        heartbeat("x", ip="evil.example.com").reports.reports[0],
        heartbeat("x", ip="10.0.0.8\n\x1b[31m").reports.reports[0],
        pb.Report(base_id="x", modules=pb.Modules(complete=True, modules=[LATE])),
        pb.Report(base_id="nobody", modules=pb.Modules(complete=True)),
        pb.Report(base_id="nobody", health=pb.Health()),
        pb.Report(base_id="nobody", poll_failed=pb.PollFailed()),
        pb.Report(base_id="nobody", order_result=pb.OrderResult(order_id="x")),
        pb.Report(base_id="no body", order_result=pb.OrderResult()),
    ]
    with Stream(control_plane.channel("gateway"), hello("hostile")) as stream:
        stream.next("welcome")
        stream.send(pb.ConnectRequest(reports=pb.Reports(seq=1, reports=reports)))
        stream.send(pb.ConnectRequest())
        stream.send(b"\x0a\x05\x0a\x03\xff\xfe\xfd")
        stream.send(pb.ConnectRequest(reports=pb.Reports(seq=2)))
        seq = 0
        while seq < 2:
            seq = stream.next("reports_ack").reports_ack.seq
    assert control_plane.bases() == before
    metrics = ask(f"http://127.0.0.1:{control_plane.metrics}/metrics")[1]
    reasons = {
        "identity",
        "unknown-base",
        "state",
        "unknown-report",
        "unexpected-message",
        "address",
        "time",
        "unparsable",
    }
    for reason in reasons:
        assert f'koupleless_refused_reports_total{{reason="{reason}"}}' in metrics
    assert "Traceback" not in control_plane.server.tail()


def test_a_gateway_that_connects_again_replaces_its_old_stream(control_plane: ControlPlane) -> None:
    with Stream(control_plane.channel("gateway"), hello("twice")) as old:
        old.next("welcome")
        with Stream(control_plane.channel("gateway"), hello("twice", instance="2")) as new:
            new.next("welcome")
            assert old.status()[0] is not grpc.StatusCode.OK
            new.send(heartbeat("after-replacement"))
            assert new.next("reports_ack").reports_ack.seq == 1
            assert "twice" in gateways(control_plane)


def test_a_stream_that_breaks_is_a_lost_gateway(control_plane: ControlPlane) -> None:
    with Stream(control_plane.channel("gateway"), hello("lost")) as stream:
        stream.next("welcome")
        assert "lost" in gateways(control_plane)
    eventually(lambda: "lost" not in gateways(control_plane), within=5, what="the gateway removed")


def test_a_baseline_question_is_answered_with_its_id_once_the_base_was_examined(control_plane: ControlPlane) -> None:
    with Stream(control_plane.channel("gateway"), hello("baseline")) as stream:
        stream.next("welcome")
        query = pb.BaselineQuery(query_id="q1", name="shop", version="1", cluster_name="default", peer=HERE.ip)
        report = pb.Report(base_id="starting-base", baseline_query=query)
        stream.send(pb.ConnectRequest(reports=pb.Reports(seq=1, reports=[report])))
        stream.send(heartbeat("starting-base", port=1240, seq=2))
        # Bases of other tests are polled over this stream, too.
        while (watch := stream.next("watch").watch).base_id != "starting-base":
            pass
        epoch = watch.epoch
        report = pb.Report(base_id="starting-base", modules=pb.Modules(complete=True, epoch=epoch))
        stream.send(pb.ConnectRequest(reports=pb.Reports(seq=3, reports=[report])))
        answer = stream.next("baseline_answer").baseline_answer
        assert (answer.base_id, answer.query_id, list(answer.modules)) == ("starting-base", "q1", [])
