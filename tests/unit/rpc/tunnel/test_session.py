"""A gateway's session over a real fleet: no message ends it, and none is dropped in silence."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import looptime
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from hypothesis import example, given
from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from controlplane.domain.access import Caller
from controlplane.domain.identity import BaseId
from controlplane.rpc.access.guard import CALLER
from controlplane.rpc.tunnel import session as sessions
from controlplane.rpc.tunnel.session import MAX_BATCH, Session, TunnelServicer
from tests.protobufs import messages
from tests.unit.app.harness import Api, LoopClock, Stage
from tests.unit.app.workloads.test_followers import put_deployment


class Aborted(Exception):
    """The servicer ended the call with a status."""


class Stream:
    """The gateway's end of a call, as the servicer uses it: bytes come in, messages go out.

    prompt: Marks are answered at once. broken: the peer is gone, and nothing says so but a write.
    """

    def __init__(self) -> None:
        self.prompt, self.broken = True, False
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: list[pb.ConnectResponse] = []
        self.status: tuple[grpc.StatusCode, str] | None = None

    def send(self, message: pb.ConnectRequest | bytes) -> None:
        self._incoming.put_nowait(message if isinstance(message, bytes) else message.SerializeToString())

    async def read(self) -> pb.ConnectRequest:
        # As grpc.aio does: what cannot be parsed raises here.
        return pb.ConnectRequest.FromString(await self._incoming.get())

    async def write(self, message: pb.ConnectResponse) -> None:
        if self.broken:
            raise aio.InternalError("Failed execute_batch")
        message.SerializeToString()
        self.sent.append(message)
        if message.HasField("mark") and self.prompt:
            self.answer_mark()

    def answer_mark(self) -> None:
        self.send(pb.ConnectRequest(reports=pb.Reports(marked=True)))

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.status = code, details
        raise Aborted(details)

    def acked(self) -> int:
        return max((message.reports_ack.seq for message in self.sent), default=0)


HELLO = pb.ConnectRequest(
    hello=pb.Hello(gateway_id="g", instance_id="i", tunnel=pb.TUNNEL_KIND_HTTP, env="dev", version="1")
)


class Scene:
    """A control plane on virtual time, and one gateway's stream to it."""

    def __init__(self) -> None:
        self.loop = looptime.new_event_loop()
        self._stop = asyncio.Event()
        self.stage: Stage | None = None
        self.stream = Stream()
        started: asyncio.Future[None] = self.loop.create_future()
        self._life = self.loop.create_task(self._live(started))
        self.loop.run_until_complete(started)

    async def _live(self, started: asyncio.Future[None]) -> None:
        async with Stage(Api()).running() as stage:
            self.stage = stage
            self.servicer = TunnelServicer(
                router=stage.router,
                gateways=stage.gateways,
                members=stage.members,
                policy=stage.policy,
                clock=LoopClock(),
            )
            CALLER.set(Caller("gateways"))
            self.call = asyncio.create_task(self.servicer.Connect(None, self.stream))  # type: ignore[arg-type]
            self.stream.send(HELLO)
            await asyncio.sleep(0.1)
            started.set_result(None)
            await self._stop.wait()
            self.call.cancel()
            await asyncio.wait([self.call])

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        self._stop.set()
        self.loop.run_until_complete(self._life)
        self.loop.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def refusals(reason: str) -> float:
    return REGISTRY.get_sample_value("koupleless_refused_reports_total", {"reason": reason}) or 0.0


def heartbeat(base: str, ip: str = "10.0.0.7") -> pb.Report:
    address = pb.Address(ip=ip, port=1238)
    return pb.Report(base_id=base, heartbeat=pb.Heartbeat(address=address, state=pb.BASE_STATE_ACTIVATED))


def reports(seq: int, *sent: pb.Report) -> pb.ConnectRequest:
    return pb.ConnectRequest(reports=pb.Reports(seq=seq, reports=sent))


def module_list(base: str, changed_at: int) -> pb.Report:
    module = pb.Module(
        name="biz1", version="1", state=pb.MODULE_STATE_ACTIVATED, changed_at=Timestamp(seconds=changed_at)
    )
    return pb.Report(base_id=base, modules=pb.Modules(complete=True, modules=[module], epoch=2**40))


def test_a_bad_report_is_refused_alone(scene: Scene) -> None:
    before = refusals("time"), refusals("address"), refusals("unparsable")
    scene.stream.send(reports(1, heartbeat("b1"), heartbeat("evil", ip="evil.example.com"), heartbeat("b2")))
    scene.run(5.0)
    scene.stream.send(reports(2, module_list("b1", 2**62), heartbeat("b3")))
    scene.stream.send(b"\x0a\x05\x0a\x03\xff\xfe\xfd")
    scene.run(5.0)
    assert scene.stage is not None
    assert sorted(base.id for base in scene.stage.roster.bases()) == ["b1", "b2", "b3"]
    assert scene.stream.acked() == 2
    assert not scene.call.done()
    assert (refusals("time"), refusals("address"), refusals("unparsable")) == tuple(count + 1 for count in before)


def test_many_refusals_of_a_gateway_give_one_log_line_a_minute(scene: Scene) -> None:
    with capture_logs() as lines:
        for seq in range(1, 51):
            scene.stream.send(reports(seq, heartbeat("b", ip="a\x1b[31m"), heartbeat("B")))
        scene.run(61.0)
        scene.stream.send(reports(51, heartbeat("b", ip="host")))
        scene.run(1.0)
    refused = [line for line in lines if line["event"] == "report refused"]
    assert [(line["gateway"], line["more"]) for line in refused] == [("g", 0), ("g", 0), ("g", 49)]
    assert all("\x1b" not in str(line) for line in refused)


def test_a_result_that_cannot_be_read_is_acknowledged_and_ends_its_order(scene: Scene) -> None:
    assert scene.stage is not None
    scene.stream.send(reports(1, heartbeat("b1")))
    scene.run(1.0)
    scene.stage.put_pod("p")
    epochs = [message.watch.epoch for message in scene.stream.sent if message.HasField("watch")]
    scene.stream.send(reports(2, pb.Report(base_id="b1", modules=pb.Modules(complete=True, epoch=epochs[-1]))))
    scene.run(1.0)
    (order,) = (message.order for message in scene.stream.sent if message.HasField("order"))
    bad = pb.Module(name="biz1", version="1", changed_at=Timestamp(seconds=-(2**62)))
    result = pb.OrderResult(order_id=order.order_id, reply=pb.Reply(modules=[bad]))
    scene.stream.send(reports(3, pb.Report(base_id="b1", order_result=result)))
    scene.run(1.0)
    assert scene.stream.acked() == 3
    base = scene.stage.roster.get(BaseId("b1"))
    assert base is not None
    assert [operation.ended.meaning.reason for operation in base.history] == ["OutcomeUnknown"]
    # The base is asked for its modules after that.
    assert max(m.watch.epoch for m in scene.stream.sent if m.HasField("watch")) > epochs[-1]


def test_reports_beyond_the_size_of_a_batch_are_ignored(scene: Scene) -> None:
    before = refusals("count")
    scene.stream.send(reports(1, *(heartbeat(f"b{number}") for number in range(MAX_BATCH + 5))))
    scene.run(5.0)
    assert scene.stage is not None
    roster = scene.stage.roster
    assert len(list(roster.bases())) + len(roster.unserved()) == MAX_BATCH
    assert refusals("count") == before + 1
    assert scene.stream.acked() == 1


def ready(scene: Scene, base: str) -> str | None:
    assert scene.stage is not None
    return scene.stage.ready("node", base)


def become_ready(scene: Scene, base: str) -> None:
    """Have a base that says what gives it a Node, and nothing more."""
    scene.stream.send(reports(1, heartbeat(base)))
    scene.run(1.0)
    epochs = [message.watch.epoch for message in scene.stream.sent if message.HasField("watch")]
    scene.stream.send(reports(2, pb.Report(base_id=base, modules=pb.Modules(complete=True, epoch=epochs[-1]))))
    scene.run(3.0)
    assert ready(scene, base) == "True"


def test_silence_counts_up_to_the_mark_that_is_answered(scene: Scene) -> None:
    become_ready(scene, "b1")
    scene.stream.prompt = False
    for seq in range(3, 33):
        # The gateway says something, but not that it was all.
        scene.stream.send(reports(seq))
        scene.run(1.0)
    assert ready(scene, "b1") == "True"
    lateness = REGISTRY.get_sample_value("koupleless_report_lateness_seconds", {"gateway": "g"})
    assert lateness is not None
    assert 28.0 <= lateness <= 32.0
    scene.stream.prompt = True
    scene.stream.answer_mark()
    scene.run(3.0)
    assert ready(scene, "b1") == "False"


def test_silence_counts_from_a_gap(scene: Scene) -> None:
    become_ready(scene, "b1")
    scene.run(20.0)
    with capture_logs() as lines:
        scene.stream.send(pb.ConnectRequest(reports=pb.Reports(seq=3, gap=True)))
        scene.run(20.0)
    assert [line["gateway"] for line in lines if line["event"].startswith("reports of bases were lost")] == ["g"]
    assert ready(scene, "b1") == "True"
    scene.run(10.0)
    assert ready(scene, "b1") == "False"


def test_marks_that_nobody_asked_for_say_nothing(scene: Scene) -> None:
    scene.stream.prompt = False
    scene.run(1.0)
    session = scene.servicer._sessions["g"]
    before = session.heard
    # The Mark that waits is answered; there is none for the next ones until the next look.
    scene.stream.answer_mark()
    scene.run(0.01)
    heard = session.heard
    assert before.until < heard.until
    scene.run(0.5)
    for _ in range(3):
        scene.stream.answer_mark()
    scene.run(0.01)
    assert session.heard == heard


def test_a_gateway_that_says_nothing_is_given_up(scene: Scene) -> None:
    scene.stream.prompt = False
    with capture_logs() as lines:
        scene.run(sessions.MUTE_LOOKS * sessions.MARK_EVERY + 2.0)
    assert [line["cause"] for line in lines if line["event"] == "gateway left"] == ["it sent nothing for 30 s"]
    assert scene.call.done()
    assert REGISTRY.get_sample_value("koupleless_report_lateness_seconds", {"gateway": "g"}) is None


def test_a_gateway_is_gone_when_nothing_can_be_written(scene: Scene) -> None:
    scene.stream.broken = True
    with capture_logs() as lines:
        scene.run(sessions.MARK_EVERY)
    assert [line["cause"] for line in lines if line["event"] == "gateway left"] == ["its stream broke off"]
    assert scene.call.done()
    assert scene.call.exception() is None
    assert "g" not in scene.servicer._sessions


def test_a_gateway_whose_call_is_cancelled_is_said_to_be_gone(scene: Scene) -> None:
    with capture_logs() as lines:
        scene.call.cancel()
        scene.run(0.01)
    assert [line["cause"] for line in lines if line["event"] == "gateway left"] == ["its stream broke off"]


@pytest.mark.parametrize("first", [b"\xff\xff", reports(1), pb.ConnectRequest(hello=pb.Hello(gateway_id="g\n"))])
def test_a_stream_that_does_not_begin_with_hello_is_ended(scene: Scene, first: bytes | pb.ConnectRequest) -> None:
    stream = Stream()
    stream.send(first)
    with pytest.raises(Aborted):
        scene.loop.run_until_complete(scene.servicer.Connect(None, stream))  # type: ignore[arg-type]
    assert stream.status is not None
    assert stream.status[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_batch_lets_other_tasks_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report takes a fifth of the longest stretch: after five of them other tasks run."""
    taken: list[str] = []
    seconds = 0.0

    class Slow(LoopClock):
        def monotonic(self) -> float:
            return seconds

    def take(_session: Session, report: pb.Report) -> None:
        nonlocal seconds
        seconds += sessions.LONGEST_STRETCH / 5
        taken.append(report.base_id)

    servicer = TunnelServicer(
        router=scene.stage.router,  # type: ignore[union-attr]
        gateways=scene.stage.gateways,  # type: ignore[union-attr]
        members=scene.stage.members,  # type: ignore[union-attr]
        policy=scene.stage.policy,  # type: ignore[union-attr]
        clock=Slow(),
    )
    monkeypatch.setattr(servicer, "_take", take)
    turns: list[int] = []

    async def other() -> None:
        while len(taken) < 100:
            turns.append(len(taken))
            await asyncio.sleep(0)

    async def both() -> None:
        session = Session(scene.servicer._sessions["g"].info, Caller("gateways"), 0.0)
        await asyncio.gather(servicer._take_batch(session, [heartbeat(f"b{n}") for n in range(100)]), other())

    scene.loop.run_until_complete(both())
    assert turns
    assert max(later - earlier for earlier, later in zip([0, *turns], [*turns, 100], strict=True)) <= 6


def test_a_baseline_of_many_bases_is_encoded_once(scene: Scene) -> None:
    assert scene.stage is not None
    put_deployment(scene.stage.api)
    bases = [f"b{number}" for number in range(3)]
    scene.stream.send(reports(1, *(heartbeat(base) for base in bases)))
    scene.run(1.0)
    epochs = {message.watch.base_id: message.watch.epoch for message in scene.stream.sent if message.HasField("watch")}
    lists = (pb.Report(base_id=base, modules=pb.Modules(complete=True, epoch=epochs[base])) for base in bases)
    scene.stream.send(reports(2, *lists))
    scene.run(1.0)
    for number, base in enumerate(bases):
        query = pb.BaselineQuery(query_id=f"q{number}", cluster_name="default", peer="10.0.0.7")
        scene.stream.send(reports(number + 3, pb.Report(base_id=base, baseline_query=query)))
    scene.run(1.0)
    answers = [message.baseline_answer for message in scene.stream.sent if message.HasField("baseline_answer")]
    assert [(answer.base_id, answer.query_id) for answer in answers] == [("b0", "q0"), ("b1", "q1"), ("b2", "q2")]
    (module,) = answers[2].modules
    assert (module.name, module.version, module.url) == ("biz1", "1", "https://repo.example/biz1.jar")


anything = messages(pb.ConnectRequest).filter(lambda message: not message.HasField("goodbye"))


@given(st.lists(anything, max_size=4))
def test_no_message_ends_the_stream(lasting: Scene, sent: list[pb.ConnectRequest]) -> None:
    _stays_open_after(lasting, sent)


@given(st.lists(st.binary(max_size=60), max_size=4))
@example([b"\xff", pb.ConnectRequest(goodbye=pb.Goodbye()).SerializeToString()])
def test_no_bytes_end_the_stream(lasting: Scene, sent: list[bytes]) -> None:
    _stays_open_after(lasting, [raw for raw in sent if not _says_goodbye(raw)])


def _says_goodbye(raw: bytes) -> bool:
    try:
        return pb.ConnectRequest.FromString(raw).HasField("goodbye")
    except DecodeError:
        return False


def _stays_open_after(scene: Scene, sent: list[pb.ConnectRequest] | list[Any]) -> None:
    for message in sent:
        scene.stream.send(message)
    seq = 2**64 - 1
    scene.stream.send(reports(seq, heartbeat("b1")))
    scene.run(0.5)
    assert not scene.call.done()
    assert scene.stream.acked() == seq
    scene.stream.sent.clear()
    scene.servicer._sessions["g"]._acked = 0
    assert scene.stage is not None
    assert scene.stage.roster.get(BaseId("b1")) is not None
