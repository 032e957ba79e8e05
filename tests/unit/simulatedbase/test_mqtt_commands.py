"""A simulated base answers commands over MQTT, here without a broker."""

import asyncio
from typing import Any, cast

import orjson
import pytest

from gateways.arklet.fields import Json
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import NotSent
from mqttclient.settings import BrokerSettings
from simulatedbase.arklet import Arklet
from simulatedbase.life import Life
from simulatedbase.mqtt import wire
from simulatedbase.mqtt.tunnel import MqttTunnel
from simulatedbase.profile import Faults, Profile

pytestmark = pytest.mark.looptime

TOPICS = wire.Topics("dev", "b")
INSTALL = b'{"bizName":"biz1","bizVersion":"0.0.1","bizUrl":"https://repo.example/biz1.jar"}'
REMOVE = b'{"bizName":"biz1","bizVersion":"0.0.1"}'


class Base:
    """A base without a connection, which collects what it publishes."""

    def __init__(self, **profile: Any) -> None:
        self.faults = Faults()
        self.published: list[tuple[str, Any]] = []
        self.offline = False
        broker = BrokerSettings.model_validate({"broker": "nowhere"})
        profile = {"identity": "b", "name": "shop-base", "env": "dev", "broker": broker, **profile}
        self._life = Life(Profile(**profile), self.faults, clock=lambda: 0)
        self.arklet = Arklet(self._life)
        self._tunnel = MqttTunnel(self._life, self.arklet)
        self._tunnel._connection = cast("MqttConnection", self)

    @property
    def recorded(self) -> list[tuple[str, Json | None]]:
        return [(received.verb, received.body) for received in self._life.commands]

    async def send(self, command: str, payload: bytes, *, seconds: float = 0.1) -> list[tuple[str, Any]]:
        """Deliver a message, and return what is published within the given seconds."""
        before = len(self.published)
        topic = TOPICS.own("baseline") if command == "baseline" else f"koupleless_dev/b/{command}"
        message = MqttMessage(topic, payload, retained=False)
        self._tunnel.received(message)
        assert message.receipt.done
        await asyncio.sleep(seconds)
        return self.published[before:]

    def publish(self, topic: str, payload: bytes) -> None:
        if self.offline:
            raise NotSent("not connected")
        envelope = orjson.loads(payload)
        assert envelope["publishTimestamp"] == 0
        self.published.append((topic.removeprefix(TOPICS.own("")), envelope["data"]))

    def pause(self) -> None:
        raise AssertionError("too few messages arrive for a pause")


async def test_install_and_uninstall_are_answered() -> None:
    base = Base()
    ((kind, answer),) = await base.send("installBiz", INSTALL)
    assert kind == "bizOperation"
    assert (answer["command"], answer["bizName"], answer["bizVersion"]) == ("installBiz", "biz1", "0.0.1")
    assert (answer["response"]["code"], answer["response"]["data"]["code"]) == ("SUCCESS", "SUCCESS")
    assert answer["response"]["data"]["bizInfos"][0]["bizState"] == "ACTIVATED"
    assert "baseIdentity" not in answer["response"]

    ((kind, answer),) = await base.send("uninstallBiz", REMOVE)
    assert (kind, answer["response"]["code"]) == ("bizOperation", "SUCCESS")
    assert await base.send("uninstallBiz", REMOVE) == [
        (
            "bizOperation",
            {
                "bizName": "biz1",
                "bizVersion": "0.0.1",
                "command": "uninstallBiz",
                "response": {
                    "code": "FAILED",
                    "data": {"code": "NOT_FOUND_BIZ", "message": "Uninstall biz: biz1:0.0.1 not found."},
                    "message": "uninstall biz not success!",
                },
            },
        )
    ]


async def test_duplicate_of_a_running_install_is_answered_first_and_without_data() -> None:
    base = Base(install_time=5.0)
    await base.send("installBiz", INSTALL)
    ((_, conflict),) = await base.send("installBiz", INSTALL)
    assert conflict["response"] == {
        "code": "FAILED",
        "message": "FAILED:biz1:0.0.1 installBiz conflict, exist unfinished command(installBiz) for this biz",
    }
    ((_, real),) = await base.send("health", b"xx", seconds=10.0)
    assert real["response"]["code"] == "SUCCESS"
    ((_, repeated),) = await base.send("installBiz", INSTALL)
    assert repeated["response"]["data"]["code"] == "REPEAT_BIZ"


async def test_commands_overtake_each_other() -> None:
    base = Base(install_time=5.0)
    await base.send("installBiz", INSTALL)
    other = INSTALL.replace(b"biz1", b"biz2")
    base.faults.slow["installBiz"] = 0.0
    assert [answer[0] for answer in await base.send("queryAllBiz", b"{}")] == ["simpleBiz"]
    await base.send("installBiz", other, seconds=6.0)
    assert {answer["bizName"] for kind, answer in base.published if kind == "bizOperation"} == {"biz1", "biz2"}


@pytest.mark.parametrize(
    ("command", "payload", "reason"),
    [
        ("installBiz", b"{}", "bizUrl should not be blank"),
        ("installBiz", b'{"bizUrl":"oss://x"}', "java.net.MalformedURLException: unknown protocol: oss"),
        ("uninstallBiz", b'{"bizName":"biz1"}', "bizVersion should not be blank"),
    ],
)
async def test_exceptions_of_changes_are_failures_with_a_trace(command: str, payload: bytes, reason: str) -> None:
    ((kind, answer),) = await Base().send(command, payload)
    response = answer["response"]
    assert (kind, response["code"], response["data"]["code"]) == ("bizOperation", "FAILED", "FAILED")
    assert response["message"] == reason
    assert "\n\tat " in response["data"]["message"]
    assert set(response) == {"code", "data", "message"}


async def test_failing_start_up_is_reported_with_its_trace() -> None:
    base = Base()
    base.faults.fail_install.add("biz1")
    ((_, answer),) = await base.send("installBiz", INSTALL)
    assert answer["response"]["data"]["code"] == "FAILED"
    assert "module biz1:0.0.1 failed to start" in answer["response"]["data"]["message"]


async def test_health_is_answered() -> None:
    ((kind, answer),) = await Base().send("health", b"")
    assert (kind, answer["code"]) == ("health", "SUCCESS")
    data = answer["data"]["healthData"]
    assert data["masterBizInfo"]["bizState"] == "ACTIVATED"
    assert data["jvm"]["java max metaspace"] > 0
    assert "baseIdentity" not in answer


async def test_modules_are_listed_with_their_last_state() -> None:
    base = Base()
    assert await base.send("queryAllBiz", b"{}") == [("simpleBiz", [])]
    await base.send("installBiz", INSTALL)
    ((_, modules),) = await base.send("queryAllBiz", b"")
    assert modules == [
        {
            "latestStateRecord": {"changeTime": 0, "message": "", "reason": "STARTED", "state": "ACTIVATED"},
            "name": "biz1",
            "state": "activated",
            "version": "0.0.1",
        }
    ]


async def test_a_baseline_is_a_batch_install() -> None:
    base = Base()
    ((kind, answer),) = await base.send("baseline", b"[" + INSTALL + b"]")
    assert (kind, answer["command"], answer["response"]["code"]) == (
        "batchInstallBizResponse",
        "batchInstallBiz",
        "SUCCESS",
    )
    assert list(answer["response"]["data"]["bizUrlToResponse"]) == ["https://repo.example/biz1.jar"]
    assert base.recorded == [("batchInstallBiz", {"bizList": [orjson.loads(INSTALL)]})]

    ((_, again),) = await base.send("baseline", b"[" + INSTALL + b"]")
    item = again["response"]["data"]["bizUrlToResponse"]["https://repo.example/biz1.jar"]
    assert (again["response"]["code"], item["code"], "bizInfos" in item) == ("FAILED", "REPEAT_BIZ", False)

    ((_, empty),) = await base.send("baseline", b"[]")
    assert (empty["response"]["code"], empty["response"]["data"]["bizUrlToResponse"]) == ("SUCCESS", {})

    ((_, none),) = await base.send("baseline", b"")
    assert (none["response"]["code"], none["response"]["message"]) == ("FAILED", "bizList is null")
    assert none["response"]["data"]["code"] == "FAILED"
    assert "bizUrlToResponse" not in none["response"]["data"]


async def test_second_batch_while_one_runs_is_a_conflict() -> None:
    base = Base(install_time=5.0)
    await base.send("baseline", b"[" + INSTALL + b"]")
    ((_, answer),) = await base.send("baseline", b"[]")
    assert answer["response"]["message"].startswith("FAILED:null:null batchInstallBiz conflict")
    assert "data" not in answer["response"]


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("installBiz", b""),
        ("uninstallBiz", b""),
        ("installBiz", b"not json"),
        ("uninstallBiz", b"[]"),
        ("baseline", b"{}"),
        ("switchBiz", REMOVE),
        ("batchInstallBiz", b"[]"),
        ("baseline", b"[1]"),
        ("help", b"{}"),
        ("queryBizOps", b"{}"),
    ],
)
async def test_unusable_commands_are_not_answered(command: str, payload: bytes) -> None:
    base = Base()
    assert await base.send(command, payload, seconds=60.0) == []


async def test_faults_hold_back_answers() -> None:
    base = Base()
    base.faults.hang.add("health")
    assert await base.send("health", b"{}", seconds=60.0) == []
    base.faults.drop_replies.add("installBiz")
    assert await base.send("installBiz", INSTALL) == []
    assert [biz.identity for biz in base.arklet.modules()] == ["biz1:0.0.1"]
    base.faults.clear()
    base.faults.slow["queryAllBiz"] = 3.0
    assert await base.send("queryAllBiz", b"{}", seconds=2.0) == []
    assert [kind for kind, _ in await base.send("health", b"{}", seconds=2.0)] == ["health", "simpleBiz"]
    assert [command for command, _ in base.recorded] == ["health", "installBiz", "queryAllBiz", "health"]


async def test_hanging_commands_do_not_fill_the_pool() -> None:
    base = Base()
    base.faults.hang.add("health")
    for _ in range(300):
        await base.send("health", b"{}", seconds=0.0)
    assert [kind for kind, _ in await base.send("queryAllBiz", b"{}")] == ["simpleBiz"]


async def test_answer_that_cannot_be_published_is_lost() -> None:
    base = Base()
    base.offline = True
    assert await base.send("installBiz", INSTALL) == []
    base.offline = False
    ((_, modules),) = await base.send("queryAllBiz", b"{}")
    assert [module["name"] for module in modules] == ["biz1"]
