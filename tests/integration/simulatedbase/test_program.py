"""simulated-base as a process: its output, its control interface, its exit."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.fields import first_object
from tests.integration.simulatedbase.wire import SECONDS, command, controller
from tests.servers.mosquitto import Mosquitto

INSTALL = b'{"bizName":"biz1","bizVersion":"0.0.1","bizUrl":"https://repo.example/biz1.jar"}'


class Program:
    def __init__(self, process: asyncio.subprocess.Process, admin: str, ports: dict[str, int]) -> None:
        self.process = process
        self.ports = ports
        self._admin = admin

    async def ask(self, method: str, path: str) -> Any:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as session,
            session.request(method, f"http://{self._admin}{path}") as response,
        ):
            body = await response.read()
            if response.status != 200:
                return response.status, body.decode()
            return orjson.loads(body)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()


async def spawn(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulatedbase",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def program(*arguments: str, count: int = 1) -> AsyncIterator[Program]:
    process = await spawn("--port", "0", "--admin-port", "0", "--count", str(count), *arguments)
    assert process.stdout is not None
    ports = {}
    try:
        async with asyncio.timeout(30):
            admin = (await process.stdout.readline()).decode().split()
            assert admin[:3] == ["admin", "listening", "on"]
            for _ in range(count):
                name, _, _, address = (await process.stdout.readline()).decode().split()
                ports[name] = int(address.rpartition(":")[2])
        yield Program(process, admin[3], ports)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    async with program("--identity", "b", "--hang", "health") as running:
        assert list(running.ports) == ["b"]
        hanging = asyncio.create_task(command(running.ports["b"], "health"))
        await asyncio.sleep(0.1)
        assert await running.end(number) == 0
        with pytest.raises((AssertionError, ConnectionError)):
            await hanging


async def test_control_of_one_base_of_several() -> None:
    async with (
        controller() as receiver,
        program("--controller", f"http://127.0.0.1:{receiver.port}", count=3) as running,
    ):
        reports = [await receiver.heartbeat() for _ in range(3)]
        assert {report.base_id: report.heartbeat.address.port for report in reports} == running.ports
        port = running.ports["base-2"]

        await running.ask("POST", "/admin/fail?base=base-2&module=biz1")
        failed = payloads.reply(first_object(await command(port, "installBiz", INSTALL)))
        assert failed.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR
        other = payloads.reply(first_object(await command(running.ports["base-1"], "installBiz", INSTALL)))
        assert other.code == pb.REPLY_CODE_SUCCESS

        await running.ask("POST", "/admin/heal?base=base-2")
        await command(port, "installBiz", INSTALL)
        (state,) = await running.ask("GET", "/admin/bases?base=base-2")
        assert state["modules"] == [{"name": "biz1", "version": "0.0.1", "state": "activated"}]
        assert state["counts"] == {"installBiz": 2}
        commands = await running.ask("GET", "/admin/commands?base=base-2")
        assert [(item["base"], item["verb"], item["body"]) for item in commands] == [
            ("base-2", "installBiz", orjson.loads(INSTALL))
        ] * 2
        assert commands[0]["at"] < commands[1]["at"]

        history = await running.ask("GET", "/admin/history?base=base-2")
        assert [(item["number"], item["running"], item["modules"]) for item in history] == [
            (1, True, {}),
            (2, True, {"biz1:0.0.1": "resolved"}),
            (3, True, {"biz1:0.0.1": "broken"}),
            (4, True, {}),
            (5, True, {"biz1:0.0.1": "resolved"}),
            (6, True, {"biz1:0.0.1": "activated"}),
        ]
        assert [item["at"] for item in history] == sorted(item["at"] for item in history)

        await running.ask("POST", "/admin/restart?base=base-2")
        history = await running.ask("GET", "/admin/history?base=base-2")
        assert [(item["running"], item["modules"], item["note"]) for item in history[6:]] == [
            (False, {}, "stopped"),
            (True, {}, "started"),
        ]
        assert (await receiver.heartbeat()).base_id == "base-2"
        assert payloads.modules(first_object(await command(port, "queryAllBiz"))).modules == []

        await running.ask("POST", "/admin/deactivate?base=base-2")
        assert (await receiver.heartbeat()).heartbeat.state == pb.BASE_STATE_DEACTIVATED
        assert [base["running"] for base in await running.ask("GET", "/admin/bases")] == [True, False, True]
        await running.ask("POST", "/admin/start?base=base-2")
        assert await command(port, "help")
        assert await running.end(signal.SIGTERM) == 0


async def test_switches_at_run_time_and_wrong_requests() -> None:
    async with program() as running:
        for path in ("hang?command=health", "slow?command=help&seconds=2.5", "drop-replies", "mute"):
            await running.ask("POST", f"/admin/{path}")
        (state,) = await running.ask("GET", "/admin/bases")
        assert state["faults"] == {
            "fail_install": [],
            "fail_uninstall": [],
            "hang": ["health"],
            "slow": {"help": 2.5},
            "drop_replies": ["*"],
            "mute": True,
        }
        (state,) = await running.ask("POST", "/admin/heal")
        assert state["faults"]["hang"] == []
        assert await running.ask("POST", "/admin/hang?base=nobody") == (404, "no base nobody\n")
        assert (await running.ask("POST", "/admin/slow"))[0] == 400
        assert (await running.ask("POST", "/admin/cut?seconds=-1"))[0] == 400
        assert (await running.ask("POST", "/admin/mute?on=maybe"))[0] == 400
        for port in ("x", "70000", "1" * 5000, "²"):
            assert (await running.ask("POST", f"/admin/restart?port={port}"))[0] == 400
        with socket.create_server(("127.0.0.1", 0)) as taken:
            status, text = await running.ask("POST", f"/admin/restart?port={taken.getsockname()[1]}")
            assert (status, "Address already in use" in text) == (409, True)


async def test_port_in_use_ends_the_program_with_cause_and_fix() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await spawn("--port", str(port))
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"cannot start: cannot listen on 127.0.0.1, port {port}: Address already in use; choose" in errors.decode()


async def test_wrong_option_is_refused() -> None:
    process = await spawn("--slow", "health")
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert "health is not of the form COMMAND=S" in errors.decode()


async def test_broker_that_is_away_ends_the_program_with_cause_and_fix() -> None:
    process = await spawn("--tunnel", "mqtt", "--broker", "127.0.0.1", "--mqtt-port", "1")
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert "cannot start: broker 127.0.0.1:1: " in errors.decode()
    assert "are --broker, --mqtt-port and the credentials right?" in errors.decode()


async def test_bases_on_a_broker(mosquitto: Mosquitto) -> None:
    arguments = ("--tunnel", "mqtt", "--broker", "127.0.0.1", "--mqtt-port", str(mosquitto.port))
    async with program(*arguments, count=2) as running:
        assert running.ports == {"base-1": mosquitto.port, "base-2": mosquitto.port}
        states = await running.ask("GET", "/admin/bases")
        assert [(state["connected"], state["beating_over_mqtt"], state["port"]) for state in states] == [
            (True, True, 0)
        ] * 2
        mosquitto.stop()
        status, text = await running.ask("POST", "/admin/restart?base=base-1")
        assert (status, f"broker 127.0.0.1:{mosquitto.port}" in text) == (409, True)
        mosquitto.start()
        (state,) = await running.ask("POST", "/admin/start?base=base-1")
        assert state["connected"]
        assert await running.end(signal.SIGTERM) == 0
