"""What is run for which settings, and what the children say as one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import generate_latest

from modulecontroller import status as status_module
from modulecontroller.children import Child, Program
from modulecontroller.settings import SupervisorSettings
from modulecontroller.status import ChildrenStatus
from modulecontroller.supervisor import check, programs
from service.process import StartError


def settings(**values: Any) -> SupervisorSettings:
    return SupervisorSettings.model_validate({"CLIENT_ID": "mc", "GRPC_PORT": 50052} | values)


@pytest.mark.parametrize(
    ("http", "mqtt", "names"),
    [
        (True, False, ["controlplane", "http-gateway"]),
        (False, True, ["controlplane", "mqtt-gateway"]),
        (True, True, ["controlplane", "http-gateway", "mqtt-gateway"]),
    ],
)
def test_a_gateway_for_each_tunnel(*, http: bool, mqtt: bool, names: list[str]) -> None:
    wanted = settings(ENABLE_HTTP_TUNNEL=http, ENABLE_MQTT_TUNNEL=mqtt)
    check(wanted)
    assert [program.name for program in programs(wanted, {})] == names


def test_what_children_are_told() -> None:
    control_plane, http, mqtt = programs(
        settings(ENABLE_HTTP_TUNNEL=True, ENABLE_MQTT_TUNNEL=True, GRPC_HOST="0.0.0.0"), {"ENV": "prod"}
    )
    assert control_plane.environ.items() >= {"ENV": "prod", "GRPC_HOST": "0.0.0.0", "CLIENT_ID": "mc"}.items()
    assert control_plane.environ["REPLICA_INSTANCE"], "its starts know each other"
    assert http.environ == {"ENV": "prod", "CONTROL_PLANE": "127.0.0.1:50052", "CLIENT_ID": "mc-http"}
    assert mqtt.environ == {"ENV": "prod", "CONTROL_PLANE": "127.0.0.1:50052", "CLIENT_ID": "mc-mqtt"}
    assert (http.module, mqtt.module) == ("gateways.http", "gateways.mqtt")


def test_no_tunnel_is_refused_with_the_fix() -> None:
    with pytest.raises(StartError, match="set ENABLE_HTTP_TUNNEL=true or ENABLE_MQTT_TUNNEL=true"):
        check(settings())


class Answers:
    """What children answer by socket and path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_path: dict[str, tuple[int, str]] = {}
        monkeypatch.setattr(status_module, "ask", self._ask)

    async def _ask(self, socket: str, path: str) -> tuple[int, str] | None:
        return self.by_path.get(f"{socket}{path}")


async def look(status: ChildrenStatus) -> None:
    looking = asyncio.create_task(status.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.wait([looking])


@pytest.mark.looptime
async def test_readiness_of_all_is_that_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch)
    status = ChildrenStatus([Child(Program("a", "", {}), "/s"), Child(Program("b", "", {}), "/s")])
    assert status.trouble() == ["a: not started yet", "b: not started yet"]
    answers.by_path["/s/a.sock/readyz"] = (200, "ok\n")
    await look(status)
    assert status.trouble() == ["b: does not answer"]
    answers.by_path["/s/b.sock/readyz"] = (503, "no control plane\nno broker\n")
    await look(status)
    assert status.trouble() == ["b: no control plane", "b: no broker"]
    answers.by_path["/s/b.sock/readyz"] = (500, "")
    await look(status)
    assert status.trouble() == ["b: answers 500"]
    answers.by_path["/s/b.sock/readyz"] = (200, "ok\nno shared subscriptions\n")
    await look(status)
    assert (status.trouble(), status.notes()) == ([], ["b: no shared subscriptions"])
    del answers.by_path["/s/b.sock/readyz"]
    await look(status)
    assert (status.trouble(), status.notes()) == (["b: does not answer"], [])


@pytest.mark.looptime
async def test_metrics_of_all_carry_their_program(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch)
    first, second = Child(Program("a", "", {}), "/s"), Child(Program("b", "", {}), "/s")
    second.restarts["ended"] = 3
    status = ChildrenStatus([first, second])
    text = '# HELP reports_total Reports\n# TYPE reports_total counter\nreports_total{kind="x"} %d\n'
    answers.by_path["/s/a.sock/metrics"] = (200, text % 1)
    answers.by_path["/s/b.sock/metrics"] = (200, text % 2)
    await look(status)
    told = generate_latest(status.registry).decode()
    assert 'reports_total{kind="x",program="a"} 1.0' in told
    assert 'reports_total{kind="x",program="b"} 2.0' in told
    assert 'koupleless_child_restarts_total{cause="ended",program="b"} 3.0' in told
    assert 'koupleless_child_restarts_total{cause="silent",program="b"} 0.0' in told
    assert told.count("# TYPE reports_total counter") == 1
