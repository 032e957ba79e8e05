"""An HTTP gateway carries out orders and polls at good and hostile bases."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from simulatedbase.base import SimulatedBase
from simulatedbase.profile import ALL, Faults, Profile, RuntimeVersion
from tests.fakes.controlplane import order, watch
from tests.integration.http_gateway.conftest import Scene, Start
from tests.integration.http_gateway.hostile import OK, Behave, arklet, endless, hang, json_answer, says
from tests.servers.process import free_port

BIZ = pb.OrderModule(name="biz1", version="0.0.1", url="https://repo.example/biz1.jar")


@pytest.fixture
async def base() -> AsyncIterator[SimulatedBase]:
    simulated = SimulatedBase(Profile(identity="base-1", port=0), Faults())
    await simulated.start()
    yield simulated
    await simulated.stop()


async def test_installs_and_uninstalls_are_answered(scene: Scene, base: SimulatedBase) -> None:
    stream = scene.stream
    stream.send(order("o1", "base-1", base.port, pb.VERB_INSTALL, BIZ))
    installed = (await stream.result("o1")).reply
    assert installed.code == pb.REPLY_CODE_SUCCESS
    assert [(m.name, m.version, m.state) for m in installed.modules] == [("biz1", "0.0.1", pb.MODULE_STATE_ACTIVATED)]
    assert base.commands[-1].body == {"bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": BIZ.url}

    stream.send(order("o2", "base-1", base.port, pb.VERB_INSTALL, BIZ))
    assert (await stream.result("o2")).reply.client_code == pb.CLIENT_CODE_REPEAT_BIZ

    stream.send(order("o3", "base-1", base.port, pb.VERB_UNINSTALL, BIZ))
    assert (await stream.result("o3")).reply.code == pb.REPLY_CODE_SUCCESS
    stream.send(order("o4", "base-1", base.port, pb.VERB_UNINSTALL, BIZ))
    assert (await stream.result("o4")).reply.client_code == pb.CLIENT_CODE_NOT_FOUND_BIZ


async def test_a_batch_is_answered_by_url_and_help_is_asked_once(scene: Scene, base: SimulatedBase) -> None:
    other = pb.OrderModule(name="biz2", version="1", url="https://repo.example/biz2.jar")
    scene.stream.send(order("o1", "base-1", base.port, pb.VERB_BATCH_INSTALL, BIZ, other))
    batch = (await scene.stream.result("o1")).batch
    assert batch.reply.code == pb.REPLY_CODE_SUCCESS
    assert {item.url: item.reply.client_code for item in batch.items} == {
        BIZ.url: pb.CLIENT_CODE_SUCCESS,
        other.url: pb.CLIENT_CODE_SUCCESS,
    }
    scene.stream.send(order("o2", "base-1", base.port, pb.VERB_BATCH_INSTALL, BIZ, other))
    again = (await scene.stream.result("o2")).batch
    assert again.reply.code == pb.REPLY_CODE_FAILED
    assert {item.reply.client_code for item in again.items} == {pb.CLIENT_CODE_REPEAT_BIZ}
    assert base.counts["help"] == 1


async def test_a_base_that_knows_no_batches_is_not_sent_one(scene: Scene) -> None:
    old = SimulatedBase(Profile(identity="base-1", port=0, runtime=RuntimeVersion.V1_3_3), Faults())
    await old.start()
    try:
        scene.stream.send(order("o1", "base-1", old.port, pb.VERB_BATCH_INSTALL, BIZ, BIZ))
        assert (await scene.stream.result("o1")).refused.reason == pb.REFUSAL_REASON_UNSUPPORTED
        assert old.counts["batchInstallBiz"] == 0
    finally:
        await old.stop()


async def test_questions_are_answered_by_reports(scene: Scene, base: SimulatedBase) -> None:
    stream = scene.stream
    stream.send(order("o1", "base-1", base.port, pb.VERB_QUERY_MODULES))
    stream.send(order("o2", "base-1", base.port, pb.VERB_HEALTH))
    assert (await stream.result("o1")).reply.code == pb.REPLY_CODE_SUCCESS
    assert (await stream.result("o2")).reply.code == pb.REPLY_CODE_SUCCESS
    modules = (await stream.report("modules", "base-1")).modules
    assert (modules.complete, modules.unchanged, list(modules.modules)) == (True, False, [])
    health = (await stream.report("health", "base-1")).health
    assert health.state == pb.BASE_STATE_ACTIVATED
    assert health.metaspace.max_bytes == 268_435_456


async def test_an_order_is_carried_out_once(scene: Scene, base: SimulatedBase) -> None:
    for _ in range(3):
        scene.stream.send(order("o1", "base-1", base.port, pb.VERB_INSTALL, BIZ))
    await scene.stream.result("o1")
    scene.stream.send(order("o1", "base-1", base.port, pb.VERB_INSTALL, BIZ))
    again = await scene.stream.result("o1", count=2)
    assert again.reply.code == pb.REPLY_CODE_SUCCESS
    assert base.counts["installBiz"] == 1


async def test_a_lower_fence_is_refused(scene: Scene, base: SimulatedBase) -> None:
    scene.stream.send(order("o1", "base-1", base.port, pb.VERB_HEALTH, fence=7))
    await scene.stream.result("o1")
    scene.stream.send(order("o2", "base-1", base.port, pb.VERB_INSTALL, BIZ, fence=6))
    assert (await scene.stream.result("o2")).refused.reason == pb.REFUSAL_REASON_STALE_FENCE
    assert base.counts["installBiz"] == 0


async def test_orders_that_cannot_be_carried_out_are_refused(scene: Scene) -> None:
    stream, port = scene.stream, free_port()
    stream.send(order("unreachable", "b", port, pb.VERB_INSTALL, BIZ))
    stream.send(order("address", "b", port, pb.VERB_INSTALL, BIZ, ip="169.254.169.254"))
    stream.send(order("name", "b", port, pb.VERB_INSTALL, BIZ, ip="localhost"))
    stream.send(order("no-module", "b", port, pb.VERB_INSTALL))
    stream.send(order("no-verb", "b", port, pb.VERB_UNSPECIFIED))
    stream.send(order("no-timeout", "b", port, pb.VERB_HEALTH, timeout=0))
    stream.send(order("no-base", "", port, pb.VERB_HEALTH))
    expected = {
        "unreachable": pb.REFUSAL_REASON_UNREACHABLE,
        "address": pb.REFUSAL_REASON_ADDRESS_NOT_ALLOWED,
        "name": pb.REFUSAL_REASON_ADDRESS_NOT_ALLOWED,
        "no-module": pb.REFUSAL_REASON_INVALID,
        "no-verb": pb.REFUSAL_REASON_INVALID,
        "no-timeout": pb.REFUSAL_REASON_INVALID,
        "no-base": pb.REFUSAL_REASON_INVALID,
    }
    for order_id, reason in expected.items():
        assert (await stream.result(order_id)).refused.reason == reason, order_id


async def test_a_base_that_does_not_accept_is_unreachable(scene: Scene) -> None:
    """The backlog is full: the connection is never made, so the order had no effect."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        blockers = [socket.socket() for _ in range(4)]
        for blocker in blockers:
            blocker.setblocking(False)
            blocker.connect_ex(("127.0.0.1", port))
        scene.stream.send(order("o1", "b", port, pb.VERB_INSTALL, BIZ, timeout=5))
        result = await scene.stream.result("o1")
        for blocker in blockers:
            blocker.close()
    assert result.refused.reason == pb.REFUSAL_REASON_UNREACHABLE


HTML = OK + b"<html><body>Bad Gateway</body></html>"
HOSTILE: list[tuple[str, Behave, str]] = [
    ("nothing", says(b""), "without an answer"),
    ("cut head", says(b"HTTP/1.1 200 OK\r\nA: b"), "cut"),
    ("empty body", says(OK), "empty"),
    ("cut body", says(json_answer(code="SUCCESS", data={"code": "SUCCESS"})[:-4]), "unreadable"),
    ("cut by its length", says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"), "cut after 2 of 99"),
    ("cut chunks", says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), "cut"),
    ("not JSON", says(OK + b"SUCCESS"), "unreadable"),
    ("HTML", says(HTML), "unreadable"),
    ("no code", says(OK + b"{}"), "unreadable"),
    ("status 500", says(b"HTTP/1.1 500 Internal Server Error\r\nContent_Length: 3\r\n\r\nPOST only"), "500"),
    ("status 413", says(b"HTTP/1.1 413 Request Entity Too Large\r\n\r\n"), "413"),
    ("redirect", says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), "302"),
    ("not HTTP", says(b"\x00\x01\x02\r\n\r\n"), "not HTTP"),
    ("endless", endless, "larger than"),
    ("hang", hang, "no answer within"),
]


@pytest.mark.parametrize(("behave", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_after_sending_anything_unclear_is_unknown(scene: Scene, behave: Behave, message: str) -> None:
    async with arklet(behave) as port:
        scene.stream.send(order("o1", "b", port, pb.VERB_INSTALL, BIZ, timeout=0.7))
        result = await scene.stream.result("o1")
    assert result.WhichOneof("outcome") == "unknown"
    assert message in result.unknown.message


async def test_replies_of_all_kinds_are_replies(scene: Scene) -> None:
    stream = scene.stream
    trace = "java.lang.IllegalStateException: port in use\n" + "\tat com.acme.Main.main(Main.java:1)\n" * 50_000
    async with (
        arklet(says(json_answer(code="SOMETHING_NEW"))) as unknown_code,
        arklet(says(json_answer(code="SUCCESS"))) as no_data,
        arklet(says(json_answer(code="CMD_PROCESS_INTERNAL_ERROR", message="m", errorStackTrace=trace))) as failing,
        arklet(says(json_answer(code="CMD_NOT_FOUND") + OK + b"{}")) as twice,
        arklet(
            says(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{"code":"SUCCESS"}\r\n0\r\n\r\n')
        ) as chunks,
    ):
        for order_id, port in {
            "unknown": unknown_code, "no_data": no_data, "failing": failing, "twice": twice, "chunks": chunks
        }.items():  # fmt: skip
            stream.send(order(order_id, order_id, port, pb.VERB_INSTALL, BIZ))
        assert (await stream.result("unknown")).reply.code == pb.REPLY_CODE_UNSPECIFIED
        assert (await stream.result("no_data")).reply.code == pb.REPLY_CODE_SUCCESS
        assert (await stream.result("twice")).reply.code == pb.REPLY_CODE_CMD_NOT_FOUND
        assert (await stream.result("chunks")).reply.code == pb.REPLY_CODE_SUCCESS
        failed = (await stream.result("failing")).reply
    assert failed.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR
    assert failed.message == "m"
    assert 0 < len(failed.stack_trace) <= 8192


async def test_a_watched_base_is_polled(scene: Scene, base: SimulatedBase) -> None:
    stream = scene.stream
    stream.send(watch("base-1", "127.0.0.1", base.port, epoch=3, modules=0.1, silent=0.1, health=0.1))
    first = (await stream.report("modules", "base-1")).modules
    assert (first.complete, first.unchanged, first.epoch) == (True, False, 3)
    await stream.report("health", "base-1")
    seen = len(stream.reports)
    assert (await stream.report("modules", "base-1", after=seen)).modules.unchanged

    stream.send(order("o1", "base-1", base.port, pb.VERB_INSTALL, BIZ))
    await stream.result("o1")
    changed = await stream.until(
        lambda: next((r.modules for r in stream.matching("modules") if r.modules.modules), None)
    )
    assert [(m.name, m.state) for m in changed.modules] == [("biz1", pb.MODULE_STATE_ACTIVATED)]

    seen = len(stream.reports)
    stream.send(watch("base-1", "127.0.0.1", base.port, epoch=4, modules=3600, silent=3600, health=3600))
    again = (await stream.report("modules", "base-1", after=seen)).modules
    fresh = await stream.until(
        lambda: next((r.modules for r in stream.matching("modules", after=seen) if r.modules.epoch == 4), None)
    )
    assert not again.unchanged
    assert [m.name for m in (fresh if fresh.modules else again).modules] == ["biz1"]

    stream.send(pb.ConnectResponse(unwatch=pb.Unwatch(base_id="base-1", fence=1)))
    stream.send(order("o2", "base-1", base.port, pb.VERB_HEALTH))
    await stream.result("o2")
    count = base.counts["queryAllBiz"]
    await asyncio.sleep(0.5)
    assert base.counts["queryAllBiz"] == count


async def test_a_failing_poll_is_reported_once_and_so_is_its_end(scene: Scene) -> None:
    base = SimulatedBase(Profile(identity="base-1", port=0))
    await base.start()
    port = base.port
    await base.stop()
    stream = scene.stream
    stream.send(watch("base-1", "127.0.0.1", port, epoch=2, modules=0.05, silent=3600))
    failed = await stream.report("poll_failed", "base-1")
    await asyncio.sleep(0.5)
    reports = [r for r in stream.matching("poll_failed", "base-1") if r.poll_failed.verb == pb.VERB_QUERY_MODULES]
    assert len(reports) == 1
    assert failed.poll_failed.epoch == 2
    await base.start()
    try:
        assert (await stream.report("modules", "base-1")).modules.complete
    finally:
        await base.stop()


async def test_hanging_bases_delay_no_other(start: Start) -> None:
    scene = await start(poll_concurrency=16, query_timeout=2.0, health_timeout=2.0)
    base = SimulatedBase(Profile(identity="good", port=0))
    await base.start()
    try:
        async with arklet(hang) as port:
            for number in range(20):
                scene.stream.send(watch(f"bad-{number}", "127.0.0.1", port, modules=0.1, silent=0.1))
            await asyncio.sleep(2.5)
            began = asyncio.get_running_loop().time()
            scene.stream.send(watch("good", "127.0.0.1", base.port))
            await scene.stream.report("modules", "good")
            assert asyncio.get_running_loop().time() - began < 1.0
    finally:
        await base.stop()


async def test_a_failing_install_carries_the_java_error(scene: Scene) -> None:
    base = SimulatedBase(Profile(identity="base-1", port=0), Faults(fail_install={ALL}))
    await base.start()
    try:
        scene.stream.send(order("o1", "base-1", base.port, pb.VERB_INSTALL, BIZ))
        reply = (await scene.stream.result("o1")).reply
    finally:
        await base.stop()
    assert reply.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR
    assert "Exception" in reply.message + reply.stack_trace
