"""A goodbye in the name of a base removes nothing as long as the base answers; its own one removes it promptly."""

import http.client
import json
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.everything import Bases
from tests.mqtt import stop
from tests.programs import ControlPlane, HttpGateway, Mctl, MqttGateway, Programs, eventually, throughout
from tests.servers.mosquitto import Mosquitto

pytestmark = pytest.mark.timeout(120)

OPTIONS = ("--env", "dev", "--heartbeat-interval", "2")
URL = "https://repo.example/biz1.jar"


@pytest.fixture
def control_plane(programs: Programs) -> ControlPlane:
    return ControlPlane(programs, CLUSTER="embedded", EMBEDDED_DB=str(programs.folder / "cluster.db")).start()


def goodbye(identity: str, port: int) -> dict[str, object]:
    """Return what the base itself would send, but for its state."""
    metadata = {"identity": identity, "name": "simulated-base", "version": "1.0.0", "clusterName": "default"}
    return {"baseMetadata": metadata, "localIP": "127.0.0.1", "port": port, "state": "deactivated"}


def post(port: int, body: dict[str, object], *, peer: str) -> None:
    """Post a heartbeat from an address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0, source_address=(peer, 0))
    connection.request("POST", "/heartbeat", json.dumps(body))
    assert connection.getresponse().status == 200
    connection.close()


def publish(port: int, topic: str, data: object) -> None:
    """Publish under the topic of a base."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="stranger")
    client.connect("127.0.0.1", port)
    client.loop_start()
    envelope = {"data": data, "publishTimestamp": int(time.time() * 1000)}
    client.publish(topic, json.dumps(envelope), qos=1).wait_for_publish(10.0)
    stop(client)


def with_module(mctl: Mctl, base: str) -> None:
    """Have a base with a Pod that is Ready."""
    mctl("wait", "--for=ready", f"vnode/{base}", "--timeout", "30s")
    mctl("install", "biz1", "--version", "1.0.0", "--url", URL, "--base", base)
    mctl("wait", "--for=ready", "module/biz1:1.0.0", "--timeout", "30s")


def undisturbed(mctl: Mctl, base: Bases, events: int) -> bool:
    """Return whether Node and Pod are as they were."""
    (vnode,) = mctl.items("get", "vnodes")
    return (
        vnode["state"] == "Ready"
        and base.modules() == {"biz1:1.0.0": "activated"}
        and mctl("events").count("VNodeRemoved") == events
    )


def gone_within(mctl: Mctl, seconds: float) -> None:
    began = time.monotonic()
    eventually(lambda: not mctl.items("get", "vnodes"), within=seconds, what="Node gone")
    print(f"Node gone {time.monotonic() - began:.1f} s after the goodbye of its base")


def test_over_http_a_goodbye_of_somebody_else_removes_nothing(programs: Programs, control_plane: ControlPlane) -> None:
    gateway = HttpGateway(programs, control_plane.address).start()
    base = Bases(programs, "victim", *OPTIONS, "--controller", gateway.url, count=1).start()
    mctl = control_plane.mctl()
    with_module(mctl, "victim")
    for peer in ("127.0.0.9", "127.0.0.1"):
        post(gateway.port, goodbye("victim", base.port), peer=peer)
        throughout(lambda: undisturbed(mctl, base, 0), seconds=5, what=f"undisturbed by a goodbye from {peer}")
    assert "127.0.0.9" in mctl("events")
    base.control("deactivate")
    gone_within(mctl, 10)


def test_over_mqtt_a_goodbye_of_somebody_else_removes_nothing(
    programs: Programs, control_plane: ControlPlane, mosquitto: Mosquitto
) -> None:
    MqttGateway(programs, control_plane.address, mosquitto.port).start()
    broker = ("--broker", "127.0.0.1", "--mqtt-port", str(mosquitto.port), "--tunnel", "mqtt", "--heartbeats-survive")
    base = Bases(programs, "victim", *OPTIONS, *broker, count=1).start()
    mctl = control_plane.mctl()
    with_module(mctl, "victim")
    topic = "koupleless_dev/victim/base"
    publish(mosquitto.port, f"{topic}/heart", goodbye("victim", 0))
    master = {"code": "SUCCESS", "data": {"healthData": {"masterBizInfo": {"bizState": "DEACTIVATED"}}}}
    publish(mosquitto.port, f"{topic}/health", master)
    throughout(lambda: undisturbed(mctl, base, 0), seconds=12, what="undisturbed")
    base.control("deactivate")
    gone_within(mctl, 25)
