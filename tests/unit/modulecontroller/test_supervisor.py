"""The supervisor runs the programs that its settings need, and merges their answers."""

import asyncio
import re
from typing import Any

import pytest

from modulecontroller.children import ASK_EVERY_AT_START, PATIENCE, Child, Program
from modulecontroller.settings import SupervisorSettings
from modulecontroller.supervisor import Supervisor, check, merged, programs
from service.process import StartError
from service.refusals import REFUSED


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
def test_each_tunnel_has_its_gateway(*, http: bool, mqtt: bool, names: list[str]) -> None:
    wanted = settings(ENABLE_HTTP_TUNNEL=http, ENABLE_MQTT_TUNNEL=mqtt)
    check(wanted)
    assert [program.name for program in programs(wanted, {})] == names


def test_children_get_their_environment() -> None:
    control_plane, http, mqtt = programs(
        settings(ENABLE_HTTP_TUNNEL=True, ENABLE_MQTT_TUNNEL=True, GRPC_HOST="0.0.0.0"), {"ENV": "prod"}
    )
    assert control_plane.environ.items() >= {"ENV": "prod", "GRPC_HOST": "0.0.0.0", "CLIENT_ID": "mc"}.items()
    assert control_plane.environ["REPLICA_INSTANCE"], "a restarted control plane recognises its own member lease"
    assert http.environ == {"ENV": "prod", "CONTROL_PLANE": "127.0.0.1:50052", "CLIENT_ID": "mc-http"}
    assert mqtt.environ == {"ENV": "prod", "CONTROL_PLANE": "127.0.0.1:50052", "CLIENT_ID": "mc-mqtt"}
    assert (http.module, mqtt.module) == ("gateways.http", "gateways.mqtt")


def test_no_tunnel_is_refused_with_the_fix() -> None:
    with pytest.raises(StartError, match="set ENABLE_HTTP_TUNNEL=true or ENABLE_MQTT_TUNNEL=true"):
        check(settings())


class Answers(Child):
    """A child without a process; the test sets its answer for each path."""

    def __init__(self, name: str) -> None:
        super().__init__(Program(name, "", {}), "/s")
        self.by_path: dict[str, tuple[int, str]] = {}

    async def ask(self, path: str) -> tuple[int, str] | None:
        return self.by_path.get(path)


async def look(*children: Child) -> None:
    """Ask each child once."""
    looking = [asyncio.create_task(child._watch()) for child in children]
    await asyncio.sleep(ASK_EVERY_AT_START / 2)
    for task in looking:
        task.cancel()
    await asyncio.wait(looking)


@pytest.mark.looptime
async def test_readiness_needs_every_child() -> None:
    a, b = Answers("a"), Answers("b")
    supervisor = Supervisor(settings(), _children=[a, b])
    assert supervisor.trouble() == ["a: not started yet", "b: not started yet"]
    a.by_path["/readyz"] = (200, "ok\n")
    await look(a, b)
    assert supervisor.trouble() == ["b: not started yet"]
    b.by_path["/readyz"] = (503, "no control plane\nno broker\n")
    await look(a, b)
    assert supervisor.trouble() == ["b: no control plane", "b: no broker"]
    b.by_path["/readyz"] = (500, "")
    await look(a, b)
    assert supervisor.trouble() == ["b: answers 500"]
    b.by_path["/readyz"] = (200, "ok\nno shared subscriptions\n")
    await look(a, b)
    assert (supervisor.trouble(), supervisor.notes()) == ([], ["b: no shared subscriptions"])
    del b.by_path["/readyz"]
    await look(a, b)
    assert (supervisor.trouble(), supervisor.notes()) == (["b: does not answer"], [])


@pytest.mark.looptime
async def test_a_child_is_dead_only_when_it_is_silent() -> None:
    child = Answers("a")
    supervisor = Supervisor(settings(), _children=[child])
    child.by_path["/readyz"] = (503, "no broker\n")
    watching = asyncio.create_task(child._watch())
    await asyncio.sleep(2 * PATIENCE.silence)
    assert (child.started.is_set(), supervisor.dead(), watching.done()) == (True, [], False)
    child.by_path.clear()
    await asyncio.sleep(PATIENCE.silence + 1.0)
    assert watching.done(), "the process has to be replaced"
    assert supervisor.dead() == ["a: has not answered for 30 s"]


async def test_merged_metrics_name_their_program() -> None:
    a, b, silent = Answers("a"), Answers("b"), Answers("c")
    b.restarts["ended"] = 3
    text = '# HELP reports_total Reports\n# TYPE reports_total counter\nreports_total{kind="x"} %d\n'
    a.by_path["/metrics"] = (200, text % 1)
    b.by_path["/metrics"] = (200, text % 2)
    metrics = (await merged([a, b, silent])).decode()
    assert 'reports_total{kind="x",program="a"} 1.0' in metrics
    assert 'reports_total{kind="x",program="b"} 2.0' in metrics
    assert 'koupleless_child_restarts_total{cause="ended",program="b"} 3.0' in metrics
    assert 'koupleless_child_restarts_total{cause="silent",program="c"} 0.0' in metrics
    assert metrics.count("# TYPE reports_total counter") == 1
    # Our own are among them: what our ports refuse, above all.
    REFUSED.labels("health", "method").inc(0)
    assert re.search(
        r'koupleless_listener_refused_total\{.*program="module-controller".*\}', (await merged([])).decode()
    )
