"""A simulated base on a real broker behaves as a real one does."""

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from service.process import StartError
from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Profile, Tunnel
from tests.integration.simulatedbase.controller import controller
from tests.integration.simulatedbase.wire import broker, command, until
from tests.servers.mosquitto import Mosquitto
from tests.servers.process import Port

INSTALL = b'{"bizName":"biz1","bizVersion":"0.0.1","bizUrl":"https://repo.example/biz1.jar"}'
REMOVE = b'{"bizName":"biz1","bizVersion":"0.0.1"}'


def profile(port: int, **settings: Any) -> Profile:
    reached = broker(port, **settings.pop("credentials", {}))
    values = {"identity": "b", "tunnel": Tunnel.MQTT, "broker": reached, "env": "dev", "port": 0, **settings}
    return Profile.model_validate(values)


@asynccontextmanager
async def running(port: int, **settings: Any) -> AsyncIterator[SimulatedBase]:
    base = SimulatedBase(profile(port, **settings))
    await base.start()
    try:
        yield base
    finally:
        await base.stop()


async def test_a_base_that_connects_asks_for_its_baseline_and_sends_a_heartbeat(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        before = time.time_ns() // 1_000_000
        async with running(mosquitto.port, name="shop", version="2.0", cluster_name="blue", ip="10.0.0.7") as base:
            await until(lambda: len(receiver.messages) == 2)
            assert (base.running, base.connected, base.heartbeats_over_mqtt, base.port) == (True, True, True, 0)
        query, heartbeat = receiver.messages
        metadata = {"clusterName": "blue", "identity": "b", "name": "shop", "version": "2.0"}
        assert (query.kind, query.data, query.retained) == ("queryBaseline", metadata, False)
        assert heartbeat.kind == "heart"
        assert heartbeat.data == {
            "baseMetadata": metadata,
            "localHostName": "b",
            "localIP": "10.0.0.7",
            "port": 0,
            "state": "activated",
        }
        assert before <= query.published_at <= heartbeat.published_at <= time.time_ns() // 1_000_000
        assert (base.running, base.connected) == (False, False)


async def test_each_command_is_answered(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(mosquitto.port) as base:
            await until(lambda: receiver.kinds("b") == ["queryBaseline"])
            for topic, payload, kind in (
                ("installBiz", INSTALL, "bizOperation"),
                ("queryAllBiz", b"{}", "simpleBiz"),
                ("health", b"{}", "health"),
                ("uninstallBiz", REMOVE, "bizOperation"),
                ("base/baseline", b"[]", "batchInstallBizResponse"),
            ):
                receiver.messages.clear()
                receiver.send("b", topic, payload)
                await until(lambda kind=kind: receiver.kinds("b") == [kind])  # type: ignore[misc]
            assert base.counts == {
                "installBiz": 1,
                "queryAllBiz": 1,
                "health": 1,
                "uninstallBiz": 1,
                "batchInstallBiz": 1,
            }


async def test_retained_commands_are_carried_out_on_every_connection(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        receiver.send("b", "installBiz", INSTALL, retain=True)
        async with running(mosquitto.port):
            await until(lambda: len(receiver.of("bizOperation")) == 1)
            assert receiver.of("bizOperation")[0].data["response"]["code"] == "SUCCESS"
        async with running(mosquitto.port):
            await until(lambda: len(receiver.of("bizOperation")) == 2)


async def test_outage_ends_heartbeats_but_not_the_base(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(mosquitto.port, heartbeat_interval=0.2, reconnect_longest=1.0) as base:
            await until(lambda: len(receiver.of("heart")) >= 3)
            mosquitto.stop()
            await until(lambda: not base.heartbeats_over_mqtt)
            assert (base.running, base.connected) == (True, False)
            mosquitto.start()
            await until(lambda: base.connected)
            await until(lambda: receiver._client.is_connected())
            receiver.messages.clear()
            await asyncio.sleep(1.0)
            receiver.send("b", "installBiz", INSTALL)
            await until(lambda: receiver.kinds("b") == ["bizOperation"])
            assert receiver.of("heart") == receiver.of("queryBaseline") == []


async def test_heartbeats_survive_where_that_is_asked_for(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(
            mosquitto.port, heartbeat_interval=0.2, reconnect_longest=1.0, heartbeats_survive=True
        ) as base:
            await until(lambda: len(receiver.of("queryBaseline")) == 1)
            mosquitto.stop()
            await until(lambda: not base.connected)
            receiver.messages.clear()
            mosquitto.start()
            await until(lambda: len(receiver.of("heart")) > 2)
            assert receiver.of("queryBaseline") == []


async def test_answer_that_falls_in_an_outage_is_lost(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(mosquitto.port, install_time=1.0, reconnect_longest=1.0) as base:
            receiver.send("b", "installBiz", INSTALL)
            await until(lambda: bool(base.modules()))
            mosquitto.stop()
            await until(lambda: base.modules()[0].state.value == "activated")
            mosquitto.start()
            await until(lambda: base.connected and receiver._client.is_connected())
            await asyncio.sleep(0.5)
            assert receiver.of("bizOperation") == []


async def test_more_commands_than_threads_and_queue_hold_are_all_answered(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(mosquitto.port) as base:
            base.faults.slow["queryAllBiz"] = 0.2
            for _ in range(150):
                receiver.send("b", "queryAllBiz", b"{}")
            await until(lambda: len(receiver.of("simpleBiz")) == 150)
            assert base.connected


async def test_a_mute_base_sends_only_its_deactivation_stamped_by_its_own_clock(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(mosquitto.port, heartbeat_interval=0.1, clock_skew=-60.0) as base:
            await until(lambda: len(receiver.of("heart")) >= 2)
            base.faults.mute = True
            await asyncio.sleep(0.2)
            receiver.messages.clear()
            await asyncio.sleep(0.5)
            assert receiver.messages == []
            now = time.time_ns() // 1_000_000
            await base.deactivate()
            await until(lambda: len(receiver.messages) == 1)
            assert receiver.messages[0].data["state"] == "DEACTIVATED"
            assert -61_000 < receiver.messages[0].published_at - now < -59_000


async def test_both_tunnels_are_one_base(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(mosquitto.port, tunnel=Tunnel.BOTH) as base:
            receiver.send("b", "installBiz", INSTALL)
            await until(lambda: len(receiver.of("bizOperation")) == 1)
            assert b"biz1" in await command(base.port, "queryAllBiz")


async def test_restart_asks_for_the_baseline_again(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        async with running(mosquitto.port) as base:
            await until(lambda: len(receiver.of("queryBaseline")) == 1)
            receiver.send("b", "installBiz", INSTALL)
            await until(lambda: len(base.modules()) == 1)
            await base.restart()
            assert base.modules() == []
            await until(lambda: len(receiver.of("queryBaseline")) == 2)


async def test_equal_client_ids_evict_each_other(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as first, running(mosquitto.port):
        await until(lambda: not first.connected)


async def test_first_connection_must_succeed() -> None:
    port = Port()
    base = SimulatedBase(profile(port.number))
    with pytest.raises(StartError, match=f"broker 127.0.0.1:{port.number}: .*refused"):
        await base.start()
    assert not base.running
    port.close()


async def test_a_wrong_password_stops_the_start() -> None:
    with Mosquitto(["allow_anonymous false"]) as server:
        for credentials in ({}, {"username": "u", "password": "p"}):
            with pytest.raises(StartError, match="does not let this user in"):
                await SimulatedBase(profile(server.port, credentials=credentials)).start()


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
async def test_tls_needs_good_certificates_on_both_sides(tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    files = {name: str(tmp_path / name) for name in ("ca", "other", "crt", "key", "base-crt", "base-key")}
    ours.cert_pem.write_to_path(files["ca"])
    other.cert_pem.write_to_path(files["other"])
    for who, name in (("", "127.0.0.1"), ("base-", "b")):
        certificate = ours.issue_cert(name)
        certificate.cert_chain_pems[0].write_to_path(files[f"{who}crt"])
        certificate.private_key_pem.write_to_path(files[f"{who}key"])
    settings = ["allow_anonymous true", "require_certificate true"]
    settings += [f"cafile {files['ca']}", f"certfile {files['crt']}", f"keyfile {files['key']}"]
    own = {"client_crt_path": files["base-crt"], "client_key_path": files["base-key"]}
    with Mosquitto(settings) as server:
        async with running(server.port, credentials={"ca_path": files["ca"], **own}, heartbeat_interval=0.1) as base:
            await asyncio.sleep(0.5)
            assert base.heartbeats_over_mqtt
        async with running(server.port, credentials={"ca_path": files["other"], "tls_insecure": True, **own}) as base:
            assert base.connected
        with pytest.raises(StartError, match="certificate is not good"):
            await SimulatedBase(profile(server.port, credentials={"ca_path": files["other"], **own})).start()
        with pytest.raises(StartError):
            await SimulatedBase(profile(server.port, credentials={"ca_path": files["ca"]})).start()
    # paho leaves the socket of a failed handshake to the garbage collector.
    gc.collect()


async def test_broker_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqttclient.connection.OPEN_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = SimulatedBase(profile(silent.getsockname()[1]))
        with pytest.raises(StartError, match="the broker does not answer"):
            await base.start()


async def test_start_that_is_cancelled_leaves_nothing(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        base = SimulatedBase(profile(mosquitto.port))
        starting = asyncio.create_task(base.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await asyncio.sleep(0.3)
        assert not base.running
        assert receiver.messages == []


async def test_hundred_bases_in_one_process(mosquitto: Mosquitto) -> None:
    with controller(mosquitto.port) as receiver:
        bases = [SimulatedBase(profile(mosquitto.port, identity=f"b-{number}")) for number in range(100)]
        await asyncio.gather(*(base.start() for base in bases))
        await until(lambda: {message.base for message in receiver.of("heart")} == {base.identity for base in bases})
        for base in bases:
            receiver.send(base.identity, "installBiz", INSTALL)
        await until(lambda: all(len(base.modules()) == 1 for base in bases))
        await asyncio.gather(*(base.stop() for base in bases))
