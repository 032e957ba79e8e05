"""A simulated base starts, sends heartbeats, stops and restarts as a real one does."""

import asyncio
import socket
from typing import Any

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.fields import first_object
from service.process import StartError
from simulatedbase.base import Fleet, SimulatedBase
from simulatedbase.http.tunnel import FIRST_PORT, LAST_PORT
from simulatedbase.profile import Profile
from tests.integration.simulatedbase.wire import Controller, command, controller, until

INSTALL = b'{"bizName":"biz1","bizVersion":"0.0.1","bizUrl":"https://repo.example/biz1.jar"}'


def reporting(receiver: Controller, **profile: Any) -> SimulatedBase:
    return SimulatedBase(
        Profile(
            identity="b", controller=f"http://127.0.0.1:{receiver.port}", **({"heartbeat_interval": 60.0} | profile)
        )
    )


async def test_first_heartbeat_at_once_as_java_sends_it() -> None:
    async with controller() as receiver:
        base = reporting(
            receiver, name="shop", version="2.0", cluster_name="blue", ip="10.0.0.7", host_name="shop-6f7c"
        )
        await base.start()
        head, _, body = (await receiver.next()).partition(b"\r\n\r\n")
        await base.stop()
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /heartbeat HTTP/1.1"
    assert b"Content-Type: application/json" in lines
    assert f"Host: 127.0.0.1:{receiver.port}".encode() in lines
    assert body == (
        b'{"baseMetadata":{"clusterName":"blue","identity":"b","name":"shop","version":"2.0"},'
        b'"localHostName":"shop-6f7c","localIP":"10.0.0.7","port":%d,"state":"activated"}' % base.port
    )
    report = payloads.heartbeat(first_object(body))
    heartbeat = report.heartbeat
    assert (report.base_id, heartbeat.name, heartbeat.version, heartbeat.cluster_name) == ("b", "shop", "2.0", "blue")


async def test_a_token_is_in_the_path_of_heartbeats() -> None:
    async with controller() as receiver:
        base = reporting(receiver, token="of-all")
        await base.start()
        head = await receiver.next()
        await base.stop()
    assert head.startswith(b"POST /t/of-all/heartbeat HTTP/1.1\r\n")


async def test_heartbeats_keep_their_rate_over_failures_and_muting() -> None:
    async with controller() as receiver:
        receiver.answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        base = reporting(receiver, heartbeat_interval=0.05)
        await base.start()
        for _ in range(3):
            await receiver.next()
        receiver.answer = b"nonsense"
        await receiver.next()
        base.faults.mute = True
        await asyncio.sleep(0.1)
        muted = receiver.requests.qsize()
        await asyncio.sleep(0.2)
        assert receiver.requests.qsize() == muted
        await base.stop()


async def test_controller_that_is_away_does_not_stop_the_base() -> None:
    async with controller() as receiver:
        pass
    base = reporting(receiver, heartbeat_interval=0.02)
    await base.start()
    await asyncio.sleep(0.1)
    assert payloads.modules(first_object(await command(base.port, "queryAllBiz"))).modules == []
    await base.stop()


async def test_heartbeat_may_come_before_the_server_listens() -> None:
    async with controller() as receiver:
        base = reporting(receiver, server_delay=0.2)
        starting = asyncio.create_task(base.start())
        port = (await receiver.heartbeat()).heartbeat.address.port
        with pytest.raises(ConnectionRefusedError):
            await command(port, "help")
        await starting
        assert base.port == port
        assert await command(port, "help")
        await base.stop()


async def test_deactivation_is_said_and_then_the_base_is_gone() -> None:
    async with controller() as receiver:
        base = reporting(receiver)
        await base.start()
        await receiver.next()
        await base.deactivate()
        report = await receiver.heartbeat()
    assert report.heartbeat.state == pb.BASE_STATE_DEACTIVATED
    assert not base.running
    with pytest.raises(ConnectionRefusedError):
        await command(base.port, "help")


async def test_stop_is_silent_and_cuts_what_is_under_way() -> None:
    async with controller() as receiver:
        base = reporting(receiver, install_time=60.0)
        await base.start()
        await receiver.next()
        installing = asyncio.create_task(command(base.port, "installBiz", INSTALL))
        await until(lambda: bool(base.modules()))
        await base.stop()
        with pytest.raises((AssertionError, ConnectionError)):
            await installing
        assert receiver.requests.empty()
    await base.stop()


async def test_restart_keeps_identity_and_port_and_loses_modules() -> None:
    async with controller() as receiver:
        base = reporting(receiver)
        await base.start()
        await receiver.next()
        port = base.port
        await command(port, "installBiz", INSTALL)
        await base.restart()
        assert (await receiver.heartbeat()).heartbeat.address.port == port
        assert payloads.modules(first_object(await command(port, "queryAllBiz"))).modules == []
        assert base.counts == {"installBiz": 1, "queryAllBiz": 1}
        await base.restart(port=0)
        assert (await receiver.heartbeat()).heartbeat.address.port == base.port
        assert await command(base.port, "help")
        await base.stop()


async def test_start_and_restart_at_the_same_time_leave_one_server() -> None:
    base = SimulatedBase(Profile())
    await asyncio.gather(base.start(), base.start(), base.restart(), base.restart())
    assert base.running
    assert await command(base.port, "help")
    await base.stop()


async def test_port_is_the_first_free_one_of_the_java_range() -> None:
    first, second = SimulatedBase(Profile(port=None)), SimulatedBase(Profile(port=None))
    await first.start()
    await second.start()
    assert FIRST_PORT <= first.port < second.port <= LAST_PORT
    await first.stop()
    await second.stop()


async def test_port_in_use_is_an_error_that_leaves_nothing_behind() -> None:
    async with controller() as receiver:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            base = reporting(receiver, port=taken.getsockname()[1])
            with pytest.raises(StartError, match="Address already in use"):
                await base.start()
        assert not base.running
        await base.start()
        await receiver.next()
        await base.stop()


async def test_a_base_that_is_stopped_keeps_its_port() -> None:
    base = SimulatedBase(Profile())
    fleet = Fleet([base])
    await fleet.start(0.0, lambda _: None)
    port = base.port
    await base.stop()
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", port))
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))
    await base.start()
    assert base.port == port
    assert await command(port, "help")
    await fleet.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))


async def test_wrong_controller_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        await SimulatedBase(Profile(controller="nowhere")).start()


async def test_hundred_bases_in_one_process() -> None:
    async with controller() as receiver:
        bases = [
            SimulatedBase(Profile(identity=f"b-{n}", controller=f"http://127.0.0.1:{receiver.port}"))
            for n in range(100)
        ]
        for base in bases:
            await base.start()
        seen = {(await receiver.heartbeat()).base_id for _ in bases}
        assert seen == {base.identity for base in bases}
        await asyncio.gather(*(command(base.port, "installBiz", INSTALL) for base in bases))
        assert all(len(base.modules()) == 1 for base in bases)
        await asyncio.gather(*(base.stop() for base in bases))
