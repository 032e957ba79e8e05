"""The quick start and the smoke test work as a user runs them."""

import os
import signal
from pathlib import Path

import pytest

from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import Programs, eventually
from tests.servers.mosquitto import Mosquitto
from tests.servers.process import accepts

EXAMPLE = Path(__file__).parents[3] / "examples" / "biz1.yaml"


def quickstart(programs: Programs, *arguments: str, **environ: str) -> ModuleController:
    return ModuleController(
        programs, "quickstart", "--data-dir", str(programs.folder / "data"), *arguments, environ=environ
    )


def said(controller: ModuleController) -> str:
    return controller.server.log.read_text()


def one_module_in_and_out(controller: ModuleController) -> None:
    controller.mctl("wait", "--for=ready", "vnode/base-1", "vnode/base-2", "--timeout", "30s")
    controller.mctl("apply", "-f", str(EXAMPLE))
    controller.mctl("wait", "--for=ready", "-f", str(EXAMPLE), "--timeout", "30s")
    controller.mctl("delete", "-f", str(EXAMPLE))
    controller.mctl("wait", "--for=gone", "-f", str(EXAMPLE), "--timeout", "30s")


def ends_without_a_trace(controller: ModuleController) -> None:
    controller.interrupt()
    eventually(lambda: not controller.server.running, within=20.0, what="ended")
    assert controller.processes() == {}
    assert said(controller).rstrip().endswith("ended")


def test_it_says_what_runs_where(programs: Programs) -> None:
    controller = quickstart(programs).start()
    eventually(lambda: "Ctrl-C ends everything" in said(controller), within=30.0, what="welcome")
    text = said(controller)
    for line in (
        f"gRPC API (mctl, gateways)   127.0.0.1:{controller.ports['GRPC_PORT']}",
        f"HTTP tunnel for bases       127.0.0.1:{controller.ports['HTTP_TUNNEL_LISTEN_PORT']}",
        f"health                      http://127.0.0.1:{controller.ports['HEALTH_PORT']}/readyz",
        "simulated bases             base-1 to base-2",
        f"MCTL_SERVER=127.0.0.1:{controller.ports['GRPC_PORT']} ",
    ):
        assert line in text
    one_module_in_and_out(controller)
    ends_without_a_trace(controller)


def test_over_mqtt_with_a_broker_of_its_own(programs: Programs) -> None:
    port = programs.port()
    controller = quickstart(programs, "--mqtt", MQTT_PORT=str(port)).start()
    eventually(lambda: "Ctrl-C ends everything" in said(controller), within=30.0, what="welcome")
    assert f"MQTT broker                 127.0.0.1:{port} (for trying out only" in said(controller)
    assert "koupleless_dev/IDENTITY/base/heart" in said(controller)
    assert not accepts(controller.ports["HTTP_TUNNEL_LISTEN_PORT"])
    one_module_in_and_out(controller)
    os.kill(controller.pid("modulecontroller.broker"), signal.SIGKILL)
    eventually(lambda: not controller.ready(), within=10.0, what="not ready without a broker")
    eventually(controller.ready, within=30.0, what="ready on the new broker")
    one_module_in_and_out(controller)
    ends_without_a_trace(controller)


def test_over_mqtt_with_the_broker_that_is_there(programs: Programs, mosquitto: Mosquitto) -> None:
    controller = quickstart(programs, "--mqtt", MQTT_BROKER="127.0.0.1", MQTT_PORT=str(mosquitto.port)).start()
    eventually(lambda: "Ctrl-C ends everything" in said(controller), within=30.0, what="welcome")
    assert f"127.0.0.1:{mosquitto.port} (MQTT_BROKER, MQTT_PORT)" in said(controller)
    assert "modulecontroller.broker" not in controller.processes().values()
    one_module_in_and_out(controller)
    ends_without_a_trace(controller)


def test_embedded_broker_names_a_port_that_is_taken(programs: Programs, mosquitto: Mosquitto) -> None:
    ended = quickstart(programs, "--mqtt", MQTT_PORT=str(mosquitto.port)).once()
    assert ended.returncode == 1
    assert (
        f"cannot start: MQTT_PORT={mosquitto.port} on 127.0.0.1: cannot listen there (Address already in use)"
        in ended.stderr
    )
    assert "cannot start: broker could not start (exit code 1)" in ended.stderr


@pytest.mark.parametrize("tunnel", [(), ("--mqtt",)])
def test_smoke_says_one_line(programs: Programs, tunnel: tuple[str, ...]) -> None:
    controller = ModuleController(programs, "smoke", "--manifest", str(EXAMPLE), *tunnel)
    ended = controller.once(seconds=110.0)
    assert ended.returncode == 0
    # The gateway warns about what the broker does not grant.
    assert [line for line in ended.stderr.splitlines() if "the broker does not give all" not in line] == []
    (line,) = ended.stdout.splitlines()
    assert line.startswith("smoke: ok: up ")
    assert controller.processes() == {}


@pytest.mark.parametrize(
    ("manifest", "named"),
    [("kind: Nonsense\n", "mctl apply -f"), ("{", "mctl apply -f")],
)
def test_smoke_fails_on_a_bad_manifest(programs: Programs, manifest: str, named: str) -> None:
    file = programs.folder / "bad.yaml"
    file.write_text(manifest)
    controller = ModuleController(programs, "smoke", "--manifest", str(file))
    ended = controller.once(seconds=110.0)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"smoke: failed: {named}" in ended.stderr
    assert controller.processes() == {}


def test_smoke_needs_its_manifest(programs: Programs) -> None:
    ended = ModuleController(programs, "smoke", "--manifest", "nowhere.yaml").once()
    assert ended.returncode == 2
    assert "there is no file nowhere.yaml" in ended.stderr
