"""Gateways as processes connect with certificates and users, and report what the broker refuses."""

import asyncio
import datetime
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from tests.fakes.controlplane import FakeControlPlane, Stream, order
from tests.integration.mqtt_gateway.bases import SUCCESS, Base, operation
from tests.integration.mqtt_gateway.conftest import broker_up
from tests.programs import Programs, ask
from tests.servers.mosquitto import Mosquitto
from tests.servers.process import Server

BIZ = pb.OrderModule(name="biz1", version="1", url="http://repo/biz1.jar")


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


@pytest.fixture
async def control_plane() -> AsyncIterator[FakeControlPlane]:
    async with FakeControlPlane().running() as fake:
        yield fake


class Process:
    """A gateway process."""

    def __init__(self, programs: Programs, control_plane: str, port: int, name: str = "gw", **environ: str) -> None:
        self.health, self.metrics = programs.port(), programs.port()
        self.server: Server = programs.program(
            name,
            "gateways.mqtt",
            environ={
                "MQTT_BROKER": "127.0.0.1",
                "MQTT_PORT": str(port),
                "CLIENT_ID": name,
                "CONTROL_PLANE": control_plane,
                "HEALTH_PORT": str(self.health),
                "METRICS_PORT": str(self.metrics),
                **environ,
            },
        )
        self.server.start()

    async def trouble(self, wanted: str, within: float = 20.0) -> str:
        """Wait until /readyz says that something keeps it from being ready."""
        return await self._readiness(lambda status, text: status == 503 and wanted in text, within)

    async def ready(self, within: float = 20.0) -> str:
        """Wait until it is ready; return what it says besides."""
        return (await self._readiness(lambda status, _: status == 200, within)).removeprefix("ok\n")

    async def _readiness(self, found: Callable[[int, str], bool], within: float) -> str:
        async with asyncio.timeout(within):
            while True:
                try:
                    status, text = await asyncio.to_thread(ask, f"http://127.0.0.1:{self.health}/readyz")
                except OSError:
                    status, text = 0, ""
                if found(status, text):
                    return text
                await asyncio.sleep(0.1)

    async def failed(self, cause: str, count: int, within: float = 20.0) -> None:
        """Wait until connecting failed so many times for a cause."""
        async with asyncio.timeout(within):
            while await self._failures(cause) < count:  # noqa: ASYNC110 - a process has no event for it
                await asyncio.sleep(0.2)

    async def ended(self, within: float = 20.0) -> None:
        """Wait until the process has ended."""
        async with asyncio.timeout(within):
            while self.server.running:  # noqa: ASYNC110 - a process has no event for it
                await asyncio.sleep(0.05)

    async def _failures(self, cause: str) -> float:
        _, text = await asyncio.to_thread(ask, f"http://127.0.0.1:{self.metrics}/metrics")
        line = f'koupleless_mqtt_connection_failures_total{{cause="{cause}"}} '
        return next((float(found.removeprefix(line)) for found in text.splitlines() if found.startswith(line)), 0.0)

    def warnings(self) -> list[str]:
        return [line for line in self.server.log.read_text().splitlines() if '"no broker"' in line]


@contextmanager
def tls_broker(
    folder: Path, ca: trustme.CA, *, expired: bool = False, client_cert: bool = False
) -> Iterator[Mosquitto]:
    now = datetime.datetime.now(datetime.UTC)
    until = now - datetime.timedelta(days=1) if expired else now + datetime.timedelta(days=1)
    before = now - datetime.timedelta(days=2)
    certificate = ca.issue_cert("127.0.0.1", not_before=before, not_after=until)
    names = {name: folder / f"{name}.pem" for name in ("ca", "crt", "key")}
    ca.cert_pem.write_to_path(names["ca"])
    certificate.cert_chain_pems[0].write_to_path(names["crt"])
    certificate.private_key_pem.write_to_path(names["key"])
    lines = ["allow_anonymous true", f"certfile {names['crt']}", f"keyfile {names['key']}", f"cafile {names['ca']}"]
    if client_cert:
        lines.append("require_certificate true")
    with Mosquitto(lines) as broker:
        yield broker


@pytest.mark.mosquitto
@pytest.mark.parametrize("trouble", ["wrong CA", "expired"])
async def test_a_certificate_that_is_not_good_is_logged_once_and_tried_again(
    tmp_path: Path, programs: Programs, control_plane: FakeControlPlane, trouble: str
) -> None:
    ca, another = trustme.CA(), trustme.CA()
    trusted = tmp_path / "trusted.pem"
    (another if trouble == "wrong CA" else ca).cert_pem.write_to_path(trusted)
    with tls_broker(tmp_path, ca, expired=trouble == "expired") as broker:
        gateway = Process(programs, control_plane.address, broker.port, MQTT_CA_PATH=str(trusted))
        text = await gateway.trouble("the broker's certificate is not good")
        assert ("expired" in text) is (trouble == "expired")
        await gateway.failed("certificate", 2)
        assert len(gateway.warnings()) == 1
        insecure = Process(
            programs,
            control_plane.address,
            broker.port,
            name="insecure",
            MQTT_CA_PATH=str(trusted),
            MQTT_TLS_INSECURE="true",
        )
        await insecure.ready()


@pytest.mark.mosquitto
async def test_tls_with_a_client_certificate(
    tmp_path: Path, programs: Programs, control_plane: FakeControlPlane
) -> None:
    ca = trustme.CA()
    mine = ca.issue_cert("gateway.example")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    mine.private_key_pem.write_to_path(tmp_path / "client.key")
    with tls_broker(tmp_path, ca, client_cert=True) as broker:
        gateway = Process(
            programs,
            control_plane.address,
            broker.port,
            MQTT_CA_PATH=str(tmp_path / "ca.pem"),
            MQTT_CLIENT_CRT_PATH=str(tmp_path / "client.pem"),
            MQTT_CLIENT_KEY_PATH=str(tmp_path / "client.key"),
        )
        await gateway.ready()
        refused = Process(
            programs, control_plane.address, broker.port, name="without", MQTT_CA_PATH=str(tmp_path / "ca.pem")
        )
        await refused.trouble("no broker at")


@pytest.mark.mosquitto
async def test_a_wrong_password_is_logged_once(
    tmp_path: Path, programs: Programs, control_plane: FakeControlPlane
) -> None:
    passwords = tmp_path / "passwords"
    made = await asyncio.create_subprocess_exec("mosquitto_passwd", "-b", "-c", str(passwords), "user", "right")
    assert await made.wait() == 0
    passwords.chmod(0o644)
    with Mosquitto(["allow_anonymous false", f"password_file {passwords}"]) as broker:
        wrong = Process(
            programs, control_plane.address, broker.port, name="wrong", MQTT_USERNAME="user", MQTT_PASSWORD="no"
        )
        await wrong.trouble("MQTT_PASSWORD")
        await wrong.failed("credentials", 2)
        assert len(wrong.warnings()) == 1
        assert "no" not in wrong.server.log.read_text().replace("no broker", "").split('"')
        right = Process(
            programs, control_plane.address, broker.port, name="right", MQTT_USERNAME="user", MQTT_PASSWORD="right"
        )
        await right.ready()


RIGHTS = [
    "topic read koupleless_dev/+/base/#",
    "topic read koupleless_dev/+/gateway/probe",
    *(f"topic write koupleless_dev/+/{word}" for word in ("health", "queryAllBiz", "installBiz", "uninstallBiz")),
    "topic write koupleless_dev/+/base/baseline",
    "topic write koupleless_dev/+/gateway/probe",
    *(f"topic read koupleless_dev/+/{word}" for word in ("health", "queryAllBiz", "installBiz", "uninstallBiz")),
    "topic read koupleless_default/+/base/heart",
]
"""The rights that docs/mqtt.md asks for."""


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("withheld", "seen"),
    [
        ("", ""),
        ("topic write koupleless_dev/+/gateway/probe", "did not come back through $share/"),
        ("topic read koupleless_dev/+/gateway/probe", "did not come back through $share/"),
    ],
)
async def test_the_rights_that_are_needed(
    tmp_path: Path, programs: Programs, control_plane: FakeControlPlane, withheld: str, seen: str
) -> None:
    """A user without one of them is served as far as that goes, and /readyz says what is missing."""
    passwords, rights = tmp_path / "passwords", tmp_path / "rights"
    for user, option in (("gateway", "-c"), ("base", "")):
        command = ["mosquitto_passwd", "-b", *filter(None, [option]), str(passwords), user, "secret"]
        made = await asyncio.create_subprocess_exec(*command)
        assert await made.wait() == 0
    given = [right for right in RIGHTS if right != withheld]
    rights.write_text("\n".join(["user gateway", *given, "user base", "topic readwrite koupleless_dev/#"]) + "\n")
    passwords.chmod(0o600)
    rights.chmod(0o600)
    with Mosquitto(["allow_anonymous false", f"password_file {passwords}", f"acl_file {rights}"]) as broker:
        gateway = Process(programs, control_plane.address, broker.port, MQTT_USERNAME="gateway", MQTT_PASSWORD="secret")
        text = await gateway.ready()
        assert (seen in text) if seen else not text
        stream = await control_plane.stream()
        async with Base(broker.port, "base-1", credentials=("base", "secret")).running() as base:
            await base.send_heartbeat()
            await stream.report("heartbeat", "base-1")
            stream.send(order("o1", "base-1", 0, pb.VERB_INSTALL, BIZ))
            await base.command("installBiz")
        assert not gateway.warnings()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"MQTT_BROKER": ""}, "MQTT_BROKER"),
        ({"MQTT_BROKER": "tcp://broker:1883"}, "MQTT_PORT"),
        ({"MQTT_PORT": "0"}, "MQTT_PORT=0"),
        ({"MQTT_CA_PATH": "/does/not/exist"}, "MQTT_CA_PATH=/does/not/exist"),
        ({"MQTT_CLIENT_CRT_PATH": "/x"}, "MQTT_CLIENT_KEY_PATH"),
        ({"MQTT_PASSWORD": "secret-word"}, "MQTT_USERNAME"),
        ({"MQTT_TLS_INSECURE": "true"}, "MQTT_CA_PATH"),
        ({"ENV": "a.b"}, "ENV=a.b"),
    ],
)
async def test_wrong_settings_stop_the_start(programs: Programs, environ: dict[str, str], said: str) -> None:
    gateway = Process(programs, "127.0.0.1:1", 1883, **environ)
    await gateway.ended()
    text = gateway.server.log.read_text()
    assert "cannot start" in text
    assert said in text
    assert "secret-word" not in text


async def heartbeats(stream: Stream, count: int) -> None:
    await stream.until(lambda: True if len([*stream.matching("heartbeat")]) >= count else None)


async def test_killing_one_of_two_gateways_loses_nothing(
    mosquitto: Mosquitto, programs: Programs, control_plane: FakeControlPlane
) -> None:
    gateways = {name: Process(programs, control_plane.address, mosquitto.port, name=name) for name in ("one", "two")}
    streams = {(stream := await control_plane.stream(n, within=30)).hello.gateway_id: stream for n in range(2)}
    for stream in streams.values():
        await broker_up(stream)
    async with Base(mosquitto.port, "base-1").running() as base:
        streams["one"].send(order("o1", "base-1", 0, pb.VERB_INSTALL, BIZ, timeout=30))
        await base.command("installBiz")
        os.kill(gateways["one"].server.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            await streams["one"].ended.wait()
        # The other one receives from every base from now on, and can report the outcome of the order.
        await base.say("bizOperation", operation("installBiz", "biz1", "1", SUCCESS))
        base.answers["queryAllBiz"] = lambda _: ("simpleBiz", [{"name": "biz1", "version": "1", "state": "activated"}])
        for count in range(5):
            await base.send_heartbeat()
            await heartbeats(streams["two"], count + 1)
        streams["two"].send(order("o2", "base-1", 0, pb.VERB_QUERY_MODULES))
        assert (await streams["two"].result("o2")).reply.code == pb.REPLY_CODE_SUCCESS
        modules = (await streams["two"].report("modules")).modules
        assert [(m.name, m.state) for m in modules.modules] == [("biz1", pb.MODULE_STATE_ACTIVATED)]
