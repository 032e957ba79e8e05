"""Recorded exchanges of real bases over HTTP, replayed to our client and to our listener, write by write."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.commands import HELP
from gateways.http.arklet_client import ArkletClient
from gateways.http.responses import Lost, NotSent
from tests.fakes.controlplane import order, watch
from tests.integration.http_gateway.conftest import Scene
from tests.recordings import HTTP, TO_BASE, TO_GATEWAY, Exchange
from tests.servers.process import free_port
from tests.serving import serving

SHORT = 0.5
"""Seconds that we wait for an answer that never comes, or comes after the timeout."""


class Player:
    """A base that replays recordings, by command."""

    def __init__(self, exchanges: Mapping[str, Exchange]) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self.given_up = asyncio.Event()
        self._exchanges = exchanges

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        if any(exchange.request_head is None for exchange in self._exchanges.values()):
            self.port = free_port()  # nobody listens
            yield self
            return
        async with serving(self._serve) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
        exchange = self._exchanges[head.split(b" ")[1].decode().lstrip("/")]
        if not exchange.close.startswith("base closes"):
            await reader.read()
            self.given_up.set()
        for part in exchange.answered():
            writer.write(part)
            await writer.drain()


def outcome(exchange: Exchange) -> bytes | type[Exception]:
    """Return what a client gets, by the recording of the wire: the body, NotSent or Lost."""
    if exchange.request_head is None:
        return NotSent
    if exchange.reply_body is None or not exchange.close.startswith("base closes"):
        return Lost
    return exchange.reply_body if (exchange.reply_head or b"").startswith(b"HTTP/1.1 200 ") else Lost


@pytest.mark.parametrize("exchange", TO_BASE, ids=lambda exchange: exchange.id)
async def test_our_client_asks_as_recorded_and_reads_the_reply(exchange: Exchange) -> None:
    # A request by hand is no command of ours, but its reply must be read too.
    command = HELP if exchange.by_hand else exchange.verb
    player = Player({command: exchange})
    client = ArkletClient(connect_timeout=5.0)
    expected = outcome(exchange)
    async with player.running():
        address = pb.Address(ip="127.0.0.1", port=player.port)
        if isinstance(expected, bytes):
            async with client.answer(address, command, exchange.request_body or b"", timeout=10.0) as answer:
                assert answer.body == expected
        else:
            with pytest.raises(expected):
                async with client.answer(address, command, exchange.request_body or b"", timeout=SHORT):
                    pass
            if not exchange.close.startswith(("base closes", "host of the base")):
                async with asyncio.timeout(5):
                    await player.given_up.wait()
    if exchange.request_head is not None and not exchange.by_hand:
        host = b"Host: 127.0.0.1:%d\r\n" % player.port
        assert player.requests == [re.sub(rb"Host: .*\r\n", host, exchange.request)]


VERBS = {
    "installBiz": pb.VERB_INSTALL,
    "uninstallBiz": pb.VERB_UNINSTALL,
    "switchBiz": pb.VERB_SWITCH,
    "batchInstallBiz": pb.VERB_BATCH_INSTALL,
}


def _module(asked: Any) -> pb.OrderModule:
    strategy = {
        None: pb.INSTALL_STRATEGY_UNSPECIFIED,
        "uninstallThenInstall": pb.INSTALL_STRATEGY_UNINSTALL_THEN_INSTALL,
    }[asked.get("installStrategy")]
    names = {"name": asked["bizName"], "version": asked["bizVersion"], "url": asked.get("bizUrl", "")}
    return pb.OrderModule(**names, strategy=strategy)


@pytest.mark.parametrize(
    "exchange",
    [exchange for exchange in TO_BASE if exchange.verb in VERBS and not exchange.by_hand],
    ids=lambda exchange: exchange.id,
)
async def test_an_order_is_the_recorded_request_and_its_result_the_recorded_reply(
    scene: Scene, exchange: Exchange
) -> None:
    modules = [_module(asked) for asked in exchange.asked().get("bizList", [exchange.asked()])]
    expected = outcome(exchange)
    async with Player({exchange.verb: exchange, "help": HTTP["help"]}).running() as player:
        timeout = 10.0 if isinstance(expected, bytes) else SHORT
        scene.stream.send(order("o1", "base-1", player.port, VERBS[exchange.verb], *modules, timeout=timeout))
        result = await scene.stream.result("o1")
    assert player.requests[-1].partition(b"\r\n\r\n")[2] == exchange.request_body
    if not isinstance(expected, bytes):
        assert result.WhichOneof("outcome") == "unknown"
        return
    recorded = exchange.json()
    reply = result.batch.reply if exchange.verb == "batchInstallBiz" else result.reply
    assert pb.ReplyCode.Name(reply.code) == f"REPLY_CODE_{recorded['code']}"
    assert pb.ClientCode.Name(reply.client_code) == f"CLIENT_CODE_{recorded.get('data', {}).get('code', 'UNSPECIFIED')}"
    assert {item.url for item in result.batch.items} == recorded.get("data", {}).get("bizUrlToResponse", {}).keys()


LISTS = [exchange for exchange in TO_BASE if exchange.verb == "queryAllBiz" and isinstance(outcome(exchange), bytes)]


@pytest.mark.parametrize("exchange", LISTS, ids=lambda exchange: exchange.id)
async def test_a_recorded_list_reaches_the_control_plane_whole(scene: Scene, exchange: Exchange) -> None:
    async with Player({"queryAllBiz": exchange, "health": HTTP["health-modules"]}).running() as player:
        scene.stream.send(watch("base-1", "127.0.0.1", player.port, epoch=7))
        modules = (await scene.stream.report("modules", "base-1")).modules
        health = (await scene.stream.report("health", "base-1")).health
    assert (modules.complete, modules.epoch) == (True, 7)
    assert [
        (module.name, module.version, pb.ModuleState.Name(module.state).removeprefix("MODULE_STATE_").lower())
        for module in modules.modules
    ] == [(entry["bizName"], entry["bizVersion"], entry["bizState"]) for entry in exchange.json()["data"]]
    assert (health.java_version, health.metaspace.max_bytes) == ("17.0.15", 419_430_400)


def _headers(head: bytes) -> dict[str, str]:
    """Return status line and headers, without the values that differ from answer to answer."""
    first, *lines = head.decode().rstrip("\r\n").split("\r\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    return {"": first} | headers | dict.fromkeys(("Date", "Server"), "differs")


@pytest.mark.parametrize(
    "exchange", [exchange for exchange in TO_GATEWAY if exchange.request_head], ids=lambda exchange: exchange.id
)
async def test_a_recorded_heartbeat_is_taken_and_answered_as_recorded(scene: Scene, exchange: Exchange) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.gateway.port)
    async with asyncio.timeout(10):
        for part in exchange.sent():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)
        # The base keeps its side open: the gateway closes.
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert exchange.reply_head is not None
    assert (_headers(head), body) == (_headers(exchange.reply_head), exchange.reply_body)

    sent = exchange.asked()
    metadata = sent["baseMetadata"]
    heartbeat = (await scene.stream.report("heartbeat", metadata["identity"])).heartbeat
    assert (heartbeat.name, heartbeat.version, heartbeat.cluster_name) == (
        metadata["name"],
        metadata.get("version", ""),
        metadata["clusterName"],
    )
    assert (heartbeat.address.ip, heartbeat.address.port, heartbeat.host_name) == (
        sent["localIP"],
        sent["port"],
        "base-host",
    )
    assert heartbeat.state == pb.BASE_STATE_ACTIVATED
