"""An HTTP gateway keeps its streams to all replicas: acknowledgements, owners, fences, lost replicas, shutdown."""

import asyncio

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Faults, Profile
from tests.fakes.controlplane import FakeControlPlane, order, watch
from tests.integration.http_gateway.conftest import Scene, Start, gateway_running, ready
from tests.integration.http_gateway.hostile import arklet, hang
from tests.integration.http_gateway.raw import exchange, heartbeat_body, request

BIZ = pb.OrderModule(name="biz1", version="0.0.1", url="https://repo.example/biz1.jar")


async def test_hello_says_who_the_gateway_is(start: Start) -> None:
    scene = await start(client_id="gw-a", env="Test")
    hello = scene.stream.hello
    assert (hello.gateway_id, hello.tunnel, hello.env) == ("gw-a", pb.TUNNEL_KIND_HTTP, "test")
    assert hello.instance_id


async def test_a_replica_that_does_not_give_its_name_is_asked_again() -> None:
    async with FakeControlPlane("").running() as nameless, gateway_running(nameless.address):
        for number in range(2):
            stream = await nameless.stream(number)
            assert not stream.reports


async def test_results_come_again_until_acknowledged(scene: Scene) -> None:
    base = SimulatedBase(Profile(identity="base-1", port=0))
    await base.start()
    try:
        scene.control_plane.auto_ack = False
        scene.stream.send(order("o1", "base-1", base.port, pb.VERB_INSTALL, BIZ))
        await scene.stream.result("o1")
        scene.stream.cut()
        second = await ready(scene.control_plane, 1)
        await second.result("o1")
        second.ack()
        await asyncio.sleep(0.1)
        second.cut()
        third = await ready(scene.control_plane, 2)
        await exchange(scene.gateway.port, request(heartbeat_body()))
        await third.report("heartbeat")
        assert not third.results
    finally:
        await base.stop()


async def test_a_restarted_replica_gets_its_gateway_back(scene: Scene) -> None:
    base = SimulatedBase(Profile(identity="base-1", port=0))
    await base.start()
    try:
        scene.stream.send(watch("base-1", "127.0.0.1", base.port, modules=0.1, silent=3600))
        await scene.stream.report("modules", "base-1")
        await scene.control_plane.stop()
        polled = base.counts["queryAllBiz"]
        await asyncio.sleep(0.5)
        assert base.counts["queryAllBiz"] > polled, "polling goes on while the replica is away"
        await scene.control_plane.start()
        stream = await ready(scene.control_plane, 1)
        stream.send(watch("base-1", "127.0.0.1", base.port, modules=0.1, silent=3600))
        first = await stream.report("modules", "base-1")
        assert not first.modules.unchanged
        assert stream.hello.instance_id == scene.stream.hello.instance_id
    finally:
        await base.stop()


async def test_no_more_is_unacknowledged_than_the_limit() -> None:
    async with FakeControlPlane(max_unacked=2, max_batch=4).running() as control_plane:
        control_plane.auto_ack = False
        async with gateway_running(control_plane.address) as gateway:
            stream = await ready(control_plane)
            for number in range(40):
                await exchange(gateway.port, request(heartbeat_body(f"base-{number}", port=2000 + number)))
            await asyncio.sleep(0.3)
            assert len(stream.batches) == 2, "two messages are all that may go unacknowledged"
            control_plane.auto_ack = True
            stream.ack()
            last = await stream.report("heartbeat", "base-39")
            assert last.base_id == "base-39"
            seen = {report.base_id for report in stream.matching("heartbeat")}
            assert len(seen) == 40


async def test_newer_heartbeats_overwrite_older_unsent_ones(scene: Scene) -> None:
    scene.control_plane.auto_ack = False
    for number in range(60):
        await exchange(scene.gateway.port, request(heartbeat_body(f"filler-{number}", port=3000 + number)))
    for port in range(2000, 2050):
        await exchange(scene.gateway.port, request(heartbeat_body("busy", port=port)))
    scene.control_plane.auto_ack = True
    scene.stream.ack()
    await scene.stream.until(
        lambda: next((r for r in scene.stream.matching("heartbeat", "busy") if r.heartbeat.address.port == 2049), None)
    )
    assert len(list(scene.stream.matching("heartbeat", "busy"))) < 50


async def test_a_claimed_base_reports_to_its_owner_only() -> None:
    async with (
        FakeControlPlane("r1").running() as one,
        FakeControlPlane("r2").running() as two,
        gateway_running(f"{one.address},{two.address}") as gateway,
    ):
        first, second = await ready(one), await ready(two)
        await exchange(gateway.port, request(heartbeat_body("free", port=1239)))
        await first.report("heartbeat", "free")
        await second.report("heartbeat", "free")

        second.send(pb.ConnectResponse(claim=pb.Claim(base_id="owned", fence=5)))
        first.send(pb.ConnectResponse(claim=pb.Claim(base_id="owned", fence=4)))
        await asyncio.sleep(0.2)
        await exchange(gateway.port, request(heartbeat_body("owned")))
        await second.report("heartbeat", "owned")
        await asyncio.sleep(0.1)
        assert not list(first.matching("heartbeat", "owned"))

        second.cut()
        await second.ended.wait()
        await asyncio.sleep(0.1)
        await exchange(gateway.port, request(heartbeat_body("owned")))
        await first.report("heartbeat", "owned")


async def test_a_fence_that_is_too_low_is_reported_to_its_sender() -> None:
    async with (
        FakeControlPlane("r1").running() as one,
        FakeControlPlane("r2").running() as two,
        gateway_running(f"{one.address},{two.address}"),
    ):
        first, second = await ready(one), await ready(two)
        second.send(pb.ConnectResponse(claim=pb.Claim(base_id="owned", fence=5)))
        await asyncio.sleep(0.2)
        first.send(watch("owned", "127.0.0.1", 9, fence=4))
        assert (await first.report("fence_seen", "owned")).fence_seen.fence == 5
        assert not list(second.matching("fence_seen"))


async def test_what_a_lost_replica_did_not_take_goes_to_the_next_owner_of_the_base() -> None:
    base = SimulatedBase(Profile(identity="base-1", port=0), Faults(slow={"installBiz": 0.5}))
    await base.start()
    try:
        async with (
            FakeControlPlane("r1").running() as one,
            FakeControlPlane("r2").running() as two,
            gateway_running(f"{one.address},{two.address}"),
        ):
            one.auto_ack = False
            first, second = await ready(one), await ready(two)
            first.send(order("done", "base-1", base.port, pb.VERB_INSTALL, BIZ, fence=5))
            await first.result("done")
            other = pb.OrderModule(name="biz2", version="0.0.1", url="https://repo.example/biz2.jar")
            first.send(order("under-way", "base-1", base.port, pb.VERB_INSTALL, other, fence=5))
            await asyncio.sleep(0.1)
            await one.stop()
            second.send(pb.ConnectResponse(claim=pb.Claim(base_id="base-1", fence=6)))
            assert (await second.result("done")).reply.code == pb.REPLY_CODE_SUCCESS
            assert (await second.result("under-way")).reply.code == pb.REPLY_CODE_SUCCESS
    finally:
        await base.stop()


async def test_members_are_connected_to() -> None:
    async with FakeControlPlane("r1").running() as one, FakeControlPlane("r2").running() as two:
        one.members = two.members = [
            pb.Member(replica_id="r1", address=one.address),
            pb.Member(replica_id="r2", address=two.address),
        ]
        async with gateway_running(one.address):
            first, _ = await ready(one), await ready(two)
            alone = pb.Members(members=[pb.Member(replica_id="r1", address=one.address)])
            first.send(pb.ConnectResponse(members=alone))
            await asyncio.sleep(1)
            assert not two.streams[0].ended.is_set(), "a working stream is kept, whatever another replica knows"
            await two.stop()
            await two.start()
            await asyncio.sleep(2)
            assert len(two.streams) == 1, "no replica names it any more"
            assert not first.ended.is_set()


async def test_a_second_stream_to_a_replica_is_closed() -> None:
    async with FakeControlPlane("r1").running() as one, gateway_running(f"{one.address},{one.other_address}"):
        both = [await one.stream(0), await one.stream(1)]
        # The stream that was accepted later is given up.
        ends = [asyncio.create_task(stream.ended.wait()) for stream in both]
        await asyncio.wait(ends, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.5)
        for end in ends:
            end.cancel()
        assert [bool(stream.goodbye) for stream in both].count(True) == 1
        assert [stream.ended.is_set() for stream in both].count(True) == 1
        assert len(one.streams) == 2


async def test_a_gateway_that_ends_reports_its_orders_and_sends_goodbye(scene: Scene) -> None:
    async with arklet(hang) as hanging:
        base = SimulatedBase(Profile(identity="slow", port=0), Faults(slow={"installBiz": 0.5}))
        await base.start()
        try:
            scene.stream.send(order("hangs", "b", hanging, pb.VERB_INSTALL, BIZ, timeout=600))
            scene.stream.send(order("slow", "slow", base.port, pb.VERB_INSTALL, BIZ, timeout=600))
            await asyncio.sleep(0.2)
            ending = asyncio.create_task(scene.gateway.end())
            assert (await scene.stream.result("slow")).reply.code == pb.REPLY_CODE_SUCCESS
            assert "gateway ended" in (await scene.stream.result("hangs")).unknown.message
            await ending
            await asyncio.wait_for(scene.stream.ended.wait(), 5)
        finally:
            await base.stop()
    assert scene.stream.goodbye


async def test_a_gateway_that_ends_opens_no_stream_again() -> None:
    async with (
        FakeControlPlane("r1").running() as one,
        FakeControlPlane("r2").running() as two,
        FakeControlPlane("r3").running() as three,
    ):
        two.linger, three.linger = 0.2, 0.8
        async with gateway_running(",".join(replica.address for replica in (one, two, three))) as gateway:
            for replica in (one, two, three):
                await ready(replica)
            await gateway.end()
        for replica in (one, two, three):
            assert [stream.goodbye for stream in replica.streams] == ["the gateway ends"]


async def test_messages_of_a_replica_without_content_are_ignored(scene: Scene) -> None:
    scene.stream.send(pb.ConnectResponse())
    scene.stream.send(pb.ConnectResponse(watch=pb.Watch()))
    scene.stream.send(pb.ConnectResponse(claim=pb.Claim()))
    scene.stream.send(pb.ConnectResponse(drain=pb.Drain(reason="r")))
    assert (await exchange(scene.gateway.port, request(heartbeat_body()))).status == 200
    await scene.stream.report("heartbeat", "base-1")
