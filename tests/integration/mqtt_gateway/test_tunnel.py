"""Messages of bases reach the control plane, and its orders reach bases."""

import asyncio

import orjson
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from tests.fakes.controlplane import order, watch
from tests.integration.mqtt_gateway.bases import CONFLICT, SUCCESS, operation
from tests.integration.mqtt_gateway.conftest import Scene, Start

BIZ = pb.OrderModule(name="biz1", version="1", url="http://repo/biz1.jar")
LISTED = [{"name": "biz1", "state": "activated", "version": "1", "latestStateRecord": None}]
HEALTH = {"code": "SUCCESS", "data": {"healthData": {"masterBizInfo": {"bizState": "ACTIVATED"}}}}


async def test_heartbeats_reach_the_control_plane(scene: Scene) -> None:
    base = await scene.base()
    await base.send_heartbeat()
    heartbeat = (await scene.stream.report("heartbeat", "base-1")).heartbeat
    assert (heartbeat.name, heartbeat.address.ip, heartbeat.address.port, heartbeat.state) == (
        "shop",
        "10.0.0.7",
        0,
        pb.BASE_STATE_ACTIVATED,
    )


async def test_an_install_is_published_and_its_answer_is_reported(scene: Scene) -> None:
    base = await scene.base()
    scene.stream.send(order("o1", "base-1", 0, pb.VERB_INSTALL, BIZ))
    body = orjson.loads(await base.command("installBiz"))
    assert body == {"bizName": "biz1", "bizVersion": "1", "bizUrl": "http://repo/biz1.jar"}
    await base.say("bizOperation", operation("installBiz", "biz1", "1", SUCCESS))
    result = await scene.stream.result("o1")
    assert result.reply.code == pb.REPLY_CODE_SUCCESS
    assert result.reply.client_code == pb.CLIENT_CODE_SUCCESS


async def test_a_conflict_before_the_real_answer_is_not_the_answer(scene: Scene) -> None:
    base = await scene.base()
    scene.stream.send(order("o1", "base-1", 0, pb.VERB_INSTALL, BIZ))
    await base.command("installBiz")
    await base.say("bizOperation", operation("installBiz", "biz1", "1", CONFLICT))
    await base.say("bizOperation", operation("installBiz", "biz1", "1", SUCCESS))
    result = await scene.stream.result("o1")
    assert result.reply.code == pb.REPLY_CODE_SUCCESS


async def test_an_order_that_bases_do_not_know_is_refused(scene: Scene) -> None:
    for number, verb in enumerate((pb.VERB_SWITCH, pb.VERB_BATCH_INSTALL)):
        scene.stream.send(order(f"o{number}", "base-1", 0, verb, BIZ))
        result = await scene.stream.result(f"o{number}")
        assert result.refused.reason == pb.REFUSAL_REASON_INVALID


async def test_no_answer_is_unknown(scene: Scene) -> None:
    await scene.base()
    scene.stream.send(order("o1", "base-1", 0, pb.VERB_UNINSTALL, BIZ, timeout=0.5))
    result = await scene.stream.result("o1")
    assert result.WhichOneof("outcome") == "unknown"


async def test_watched_bases_are_asked_and_lists_reach_the_epoch(scene: Scene) -> None:
    base = await scene.base()
    base.answers["queryAllBiz"] = lambda _: ("simpleBiz", LISTED)
    base.answers["health"] = lambda _: ("health", HEALTH)
    scene.stream.send(watch("base-1", "10.0.0.7", 0, epoch=3))
    first = (await scene.stream.report("modules", "base-1")).modules
    assert first.complete
    assert [(m.name, m.version, m.state) for m in first.modules] == [("biz1", "1", pb.MODULE_STATE_ACTIVATED)]
    await scene.stream.until(
        lambda: next((r for r in scene.stream.matching("modules") if r.modules.epoch == 3), None), within=5
    )
    health = (await scene.stream.report("health", "base-1")).health
    assert health.state == pb.BASE_STATE_ACTIVATED


async def test_a_silent_base_is_a_failed_poll(scene: Scene) -> None:
    await scene.base()
    scene.stream.send(watch("base-1", "10.0.0.7", 0, epoch=1))
    failed = (await scene.stream.report("poll_failed", "base-1")).poll_failed
    assert "no answer within 1 s" in failed.reason


async def test_a_starting_base_gets_its_baseline(scene: Scene) -> None:
    def answer(report: pb.Report) -> pb.BaselineAnswer:
        refs = [pb.ModuleRef(name="biz1", version="1", url="http://repo/biz1.jar")]
        return pb.BaselineAnswer(base_id=report.base_id, query_id=report.baseline_query.query_id, modules=refs)

    scene.control_plane.on_baseline = answer
    base = await scene.base()
    await base.say("queryBaseline", {"identity": "base-1", "name": "shop", "version": "1", "clusterName": "c"})
    body = orjson.loads(await base.command("base/baseline"))
    assert body == [{"bizName": "biz1", "bizVersion": "1", "bizUrl": "http://repo/biz1.jar"}]
    response = {"code": "SUCCESS", "data": {"bizUrlToResponse": {"http://repo/biz1.jar": {"code": "REPEAT_BIZ"}}}}
    await base.say("batchInstallBizResponse", {"command": "batchInstallBiz", "response": response})
    batch = (await scene.stream.report("batch_install_result", "base-1")).batch_install_result
    assert [(item.url, item.reply.client_code) for item in batch.items] == [
        ("http://repo/biz1.jar", pb.CLIENT_CODE_REPEAT_BIZ)
    ]


async def test_two_gateways_share_heartbeats_and_each_gets_its_answers(start: Start) -> None:
    one, two = await start(), await start()
    base = await one.base()
    for _ in range(20):
        await base.send_heartbeat()
    await asyncio.sleep(0.5)
    heartbeats = [len(list(scene.stream.matching("heartbeat", "base-1"))) for scene in (one, two)]
    assert all(heartbeats)
    assert sum(heartbeats) <= 20
    for name, scene in (("a", one), ("b", two)):
        module = pb.OrderModule(name=name, version="1", url="http://repo/x.jar")
        scene.stream.send(order(f"order-{name}", "base-1", 0, pb.VERB_INSTALL, module))
        await base.command("installBiz", 1 if name == "a" else 2)
        await base.say("bizOperation", operation("installBiz", name, "1", SUCCESS))
        assert (await scene.stream.result(f"order-{name}")).reply.code == pb.REPLY_CODE_SUCCESS
