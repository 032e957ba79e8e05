"""A module-controller restarts its children, reports why they cannot start, and ends them all."""

import json
import os
import signal

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import Programs, SimulatedBase, ask, eventually
from tests.servers.mosquitto import Mosquitto

CHILDREN = {"modulecontroller", "controlplane", "gateways.http"}


def events(controller: ModuleController) -> list[dict[str, object]]:
    lines = controller.server.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def kill_until_restarted(controller: ModuleController, module: str) -> None:
    """Kill a child and wait for another process: the killed one is visible until it is reaped."""
    killed = controller.pid(module)
    os.kill(killed, signal.SIGKILL)
    eventually(
        lambda: any(name == module and pid != killed for pid, name in controller.processes().items()),
        within=20.0,
        what=f"{module} restarted",
    )


def test_child_that_is_killed_is_restarted_and_its_work_goes_on(programs: Programs) -> None:
    controller = ModuleController(programs).start()
    base = SimulatedBase(programs, controller.url("", "HTTP_TUNNEL_LISTEN_PORT"), "b").start()
    for module, name in (("gateways.http", "http-gateway"), ("controlplane", "controlplane")):
        before = controller.pid(module)
        os.kill(before, signal.SIGKILL)
        eventually(lambda: not controller.ready(), within=10.0, what=f"not ready without {name}")
        eventually(controller.ready, within=30.0, what="ready again")
        assert controller.pid(module) != before
        assert f'koupleless_child_restarts_total{{cause="ended",program="{name}"}} 1.0' in controller.metrics()
    eventually(lambda: 'program="http-gateway"' in controller.metrics(), within=10.0, what="metrics of the new one")
    assert base.server.running


def test_health_and_metrics_of_all_on_the_ports_of_the_whole(programs: Programs) -> None:
    controller = ModuleController(programs).start()
    assert ask(controller.url("/livez")) == (200, "ok\n")
    assert ask(controller.url("/readyz")) == (200, "ok\n")
    eventually(lambda: "gateway" in controller.metrics(), within=10.0, what="metrics of the gateway")
    families = list(text_string_to_metric_families(controller.metrics()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    seen = {sample.labels["program"] for family in families for sample in family.samples}
    assert seen == {"module-controller", "controlplane", "http-gateway"}


def test_ctrl_c_ends_all_in_order_and_leaves_nothing(programs: Programs) -> None:
    controller = ModuleController(programs).start()
    assert set(controller.processes().values()) == CHILDREN
    controller.interrupt()
    eventually(lambda: not controller.server.running, within=20.0, what="ended")
    assert controller.processes() == {}
    ending = [event["program"] for event in events(controller) if event["event"] == "ending"]
    assert ending == ["module-controller", "http-gateway", "controlplane"]
    assert not [event for event in events(controller) if event["level"] == "error"]


def test_ctrl_c_while_a_child_waits_for_its_restart(programs: Programs) -> None:
    controller = ModuleController(programs).start()
    for _ in range(2):
        kill_until_restarted(controller, "gateways.http")
    os.kill(controller.pid("gateways.http"), signal.SIGKILL)
    eventually(lambda: "gateways.http" not in controller.processes().values(), within=5.0, what="dead")
    controller.interrupt()
    eventually(lambda: not controller.server.running, within=15.0, what="ended")
    assert controller.processes() == {}


def test_nothing_outlives_a_killed_parent(programs: Programs) -> None:
    controller = ModuleController(programs).start()
    os.kill(controller.server.pid, signal.SIGKILL)
    eventually(lambda: controller.processes() == {}, within=30.0, what="no process left")


def test_child_that_cannot_start_ends_all_with_its_message_and_code(programs: Programs) -> None:
    database = programs.folder / "file" / "cluster.db"
    database.parent.touch()
    controller = ModuleController(programs, environ={"EMBEDDED_DB": str(database)})
    ended = controller.once()
    assert ended.returncode == 1
    assert f"cannot start: EMBEDDED_DB={database}" in ended.stderr
    assert "cannot start: controlplane could not start (exit code 1); its message stands above" in ended.stderr
    assert controller.processes() == {}


def test_wrong_settings_of_a_child_end_all_with_code_2(programs: Programs) -> None:
    controller = ModuleController(programs, environ={"HTTP_TUNNEL_QUERY_TIMEOUT": "never"})
    ended = controller.once()
    assert ended.returncode == 2
    assert "HTTP_TUNNEL_QUERY_TIMEOUT=never" in ended.stderr
    assert "cannot start: http-gateway could not start (exit code 2); its message stands above" in ended.stderr
    assert controller.processes() == {}


def test_a_misspelt_variable_of_a_child_ends_all_with_code_2(programs: Programs) -> None:
    ended = ModuleController(programs, environ={"VNODE_WORKER_NUMM": "3"}).once()
    assert ended.returncode == 2
    assert "VNODE_WORKER_NUMM: there is no such variable. Did you mean VNODE_WORKER_NUM?" in ended.stderr
    assert "cannot start: controlplane could not start (exit code 2)" in ended.stderr


def test_a_misspelt_variable_of_a_program_that_does_not_run_is_logged_and_the_start_goes_on(programs: Programs) -> None:
    controller = ModuleController(programs, environ={"MQTT_BROKERS": "not-to-be-seen"}).start()
    (line,) = [event for event in events(controller) if event["event"] == "a variable is not known"]
    assert (line["level"], line["complaint"]) == (
        "warning",
        "MQTT_BROKERS: there is no such variable. Did you mean MQTT_BROKER? Rename or unset it",
    )
    assert "not-to-be-seen" not in controller.server.log.read_text()


def test_mqtt_without_a_broker_is_refused_with_variable_and_fix(programs: Programs) -> None:
    ended = ModuleController(programs, environ={"ENABLE_MQTT_TUNNEL": "true"}).once()
    assert ended.returncode == 2
    assert "MQTT_BROKER" in ended.stderr
    assert "cannot start: mqtt-gateway could not start (exit code 2)" in ended.stderr


def test_both_tunnels_run_at_once(programs: Programs, mosquitto: Mosquitto) -> None:
    controller = ModuleController(
        programs,
        environ={"ENABLE_MQTT_TUNNEL": "true", "MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(mosquitto.port)},
    ).start()
    assert set(controller.processes().values()) == CHILDREN | {"gateways.mqtt"}
    over_mqtt = ("--broker", "127.0.0.1", "--mqtt-port", str(mosquitto.port), "--env", "dev")
    http = controller.url("", "HTTP_TUNNEL_LISTEN_PORT")
    for name, tunnel in (("a", "http"), ("b", "mqtt"), ("c", "both")):
        SimulatedBase(programs, http, name, "--tunnel", tunnel, *over_mqtt).start()
        controller.mctl("wait", "--for=ready", f"vnode/{name}", "--timeout", "30s")
    names = [line.split()[0] for line in controller.mctl("get", "vnodes").splitlines()[1:]]
    assert len(names) == 3
    seen = set()
    for family in text_string_to_metric_families(controller.metrics()):
        seen |= {sample.labels["program"] for sample in family.samples}
    assert seen == {"module-controller", "controlplane", "http-gateway", "mqtt-gateway"}
    mosquitto.stop()
    eventually(lambda: "mqtt-gateway" in ask(controller.url("/readyz"))[1], within=20.0, what="broker missed")
    controller.interrupt()
    eventually(lambda: not controller.server.running, within=20.0, what="ended")
    assert controller.processes() == {}


def test_port_that_is_taken_is_named(programs: Programs) -> None:
    first = ModuleController(programs).start()
    second = ModuleController(programs, environ={"HEALTH_PORT": str(first.ports["HEALTH_PORT"])})
    ended = second.once()
    assert ended.returncode == 1
    assert f"cannot start: HEALTH_PORT={first.ports['HEALTH_PORT']}: cannot listen there" in ended.stderr
