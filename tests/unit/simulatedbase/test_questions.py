"""A simulated base runs asynchronous commands, and answers questions: state of a command, help, health."""

import asyncio
from typing import Any

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.commands import HELP
from gateways.arklet.fields import Json, first_object
from gateways.arklet.payloads import Negative
from simulatedbase.profile import COMMANDS
from tests.unit.simulatedbase.bases import BIZ1, Base

REQUEST = {"bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": "https://repo.example/biz1.jar", "async": True}


async def ops(base: Base, request_id: str) -> Any:
    return first_object(await base.send("queryBizOps", {"requestId": request_id}))["data"]


@pytest.mark.looptime
async def test_an_asynchronous_command_has_a_record() -> None:
    base = Base(install_time=4)
    accepted = first_object(await base.send("installBiz", REQUEST | {"requestId": "r-1"}))
    assert accepted["code"] == "SUCCESS"
    assert accepted["data"] == {
        "arkBizMeta": {
            "async": True,
            "bizName": "biz1",
            "bizUrl": "https://repo.example/biz1.jar",
            "bizVersion": "0.0.1",
            "installStrategy": "installOnly",
            "requestId": "r-1",
        },
        "elapsedTime": 0,
        "endTimestamp": 0,
        "requestId": "r-1",
        "startTime": 1_700_000_000_000,
        "startTimestamp": 1_700_000_000_000,
        "status": "INITIALIZED",
    }
    await asyncio.sleep(1)
    assert (await ops(base, "r-1"))["status"] == "EXECUTING"
    again = payloads.reply(first_object(await base.send("installBiz", REQUEST | {"requestId": "r-1"})))
    assert again.message == "The request corresponding to the requestId(r-1) has been executed."
    await asyncio.sleep(4)
    record = await ops(base, "r-1")
    assert (record["status"], record["elapsedTime"]) == ("SUCCEEDED", 4000)
    await base.send("installBiz", REQUEST | {"requestId": "r-2"})
    await asyncio.sleep(1)
    record = await ops(base, "r-2")
    assert (record["status"], record["message"]) == ("FAILED", "install biz not success!")
    unknown = payloads.reply(first_object(await base.send("queryBizOps", {"requestId": "r-9"})))
    assert unknown.message == "Not found the corresponding ops record."
    assert not base.life.tasks


@pytest.mark.looptime
async def test_the_loser_of_two_commands_frees_the_lock_of_the_winner() -> None:
    base = Base(install_time=4)
    await base.send("installBiz", REQUEST | {"requestId": "winner"})
    await asyncio.sleep(1)
    await base.send("installBiz", REQUEST | {"requestId": "loser"})
    await asyncio.sleep(1)
    record = await ops(base, "loser")
    assert (record["status"], record["endTimestamp"]) == ("INITIALIZED", 1_700_000_001_000)
    assert "BizState must be" in (await base.reply(pb.VERB_UNINSTALL, BIZ1)).message
    await asyncio.sleep(4)
    assert (await ops(base, "winner"))["status"] == "SUCCEEDED"


async def test_an_unknown_command_is_not_found() -> None:
    assert await Base().send("health/", {}) == b'{"code":"CMD_NOT_FOUND","message":"please follow the doc"}'


async def test_help_names_every_command() -> None:
    assert payloads.help_commands(first_object(await Base().send(HELP, None))) == set(COMMANDS)


async def test_health_has_the_state_the_metaspace_and_all_modules() -> None:
    base = Base(metaspace_used=1000, metaspace_per_module=10, metaspace_max=-1, java_version="17.0.9")
    await base.ask(pb.VERB_INSTALL, BIZ1)
    body = await base.ask(pb.VERB_HEALTH)
    health = payloads.health(first_object(body))
    assert (health.state, health.java_version) == (pb.BASE_STATE_ACTIVATED, "17.0.9")
    assert health.metaspace == pb.Metaspace(used_bytes=1010, committed_bytes=65536, max_bytes=-1)
    data = first_object(body)["data"]["healthData"]
    assert set(data) == {"masterBizInfo", "bizListInfo", "pluginListInfo", "cpu", "jvm"}
    assert [entry["bizName"] for entry in data["bizListInfo"]] == ["shop-base", "biz1"]


@pytest.mark.parametrize(
    ("parameters", "keys"),
    [
        ({"type": "system"}, {"cpu", "jvm"}),
        ({"type": "system", "metrics": ["cpu"]}, {"cpu"}),
        ({"type": "biz"}, {"bizListInfo"}),
        ({"type": "biz", "bizName": "biz1", "bizVersion": "0.0.1"}, {"bizInfo"}),
        ({"type": "plugin"}, {"pluginListInfo"}),
        ({"type": "system", "metrics": 3}, {"cpu", "jvm"}),
    ],
)
async def test_parameters_select_parts_of_health(parameters: Json, keys: set[str]) -> None:
    base = Base()
    await base.ask(pb.VERB_INSTALL, BIZ1)
    assert set(first_object(await base.send("health", parameters))["data"]["healthData"]) == keys


async def test_health_of_an_absent_module_is_negative() -> None:
    with pytest.raises(Negative):
        payloads.health(first_object(await Base().send("health", {"bizName": "x", "bizVersion": "1"})))
