"""module-controller config: the settings of all programs, where each comes from, and what is wrong."""

import json
from pathlib import Path

import pytest

from controlplane.settings import ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from modulecontroller import __main__ as command
from modulecontroller import configuration as config
from modulecontroller.broker import LocalBrokerSettings
from modulecontroller.configuration import PROGRAMS, VARIABLES, survey
from modulecontroller.settings import PROGRAM_NAMES, QuickstartSettings, SupervisorSettings
from service.settings import Settings, misspelt, names


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_each_program_that_would_run_has_the_settings_it_would_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given(monkeypatch, ENABLE_HTTP_TUNNEL="true", CLIENT_ID="mc", GRPC_PORT="50052")
    found = survey()
    assert [program.name for program in found.programs] == ["module-controller", "controlplane", "http-gateway"]
    assert not found.wrong
    gateway = found.of(HttpGatewaySettings)
    assert gateway is not None
    assert (gateway.client_id, gateway.control_plane) == ("mc-http", ("127.0.0.1:50052",))
    sources = {variable.name: variable.source.value for variable in found.programs[2].variables}
    assert sources["CLIENT_ID"] == sources["CONTROL_PLANE"] == "module-controller"
    assert sources["ENV"] == "default"
    assert found.of(MqttGatewaySettings) is None
    assert found.why_not(MqttGatewaySettings) == "mqtt-gateway is not run here"


def test_a_program_alone_has_only_the_values_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, CLIENT_ID="gw-1", CONTROL_PLANE="localhost:50051", MQTT_BROKER="b", VNODE_WORKER_NUM="4")
    found = survey(["mqtt-gateway"])
    gateway = found.of(MqttGatewaySettings)
    assert gateway is not None
    assert (gateway.client_id, gateway.control_plane) == ("gw-1", ("localhost:50051",))
    assert found.unread == ("VNODE_WORKER_NUM",)


def test_each_problem_of_any_program_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given(
        monkeypatch,
        ENABLE_HTTP_TUNNEL="true",
        ENABLE_MQTT_TUNNEL="yes",
        ENV="a.b",
        HEALTH_PORT="0",
        VNODE_WORKER_NUM="-1",
        HTTP_TUNNEL_ALLOWED_CIDRS="10.0.0.0/99",
        MQTT_PORT="x",
        MQTT_BROKERS="b",
    )
    wrong = survey().wrong
    begins = sorted(line.split(":")[0].split(" is not set")[0] for line in wrong)
    assert begins == [
        "ENV=a.b",
        "HEALTH_PORT=0",
        "HTTP_TUNNEL_ALLOWED_CIDRS=10.0.0.0/99",
        "MQTT_BROKER",
        "MQTT_BROKERS",
        "MQTT_PORT=x",
        "VNODE_WORKER_NUM=-1",
    ]


def test_without_any_tunnel_the_values_are_shown_with_the_error() -> None:
    found = survey()
    assert found.wrong[0].startswith("no tunnel is enabled")
    assert found.of(ControlPlaneSettings) is not None
    assert "VNODE_WORKER_NUM" in config.as_text(found)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, MQTT_BROKER="b", MQTT_USERNAME="u", MQTT_PASSWORD="s3cret", HTTP_TUNNEL_TOKEN="t0ken")
    found = survey(["http-gateway", "mqtt-gateway"])
    for shown in (config.as_text(found), config.as_json(found)):
        assert "s3cret" not in shown
        assert "t0ken" not in shown
        assert "********" in shown


def test_no_secret_is_shown_when_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, MQTT_BROKER="b", MQTT_PASSWORD="s3cret")
    found = survey(["mqtt-gateway"])
    assert "MQTT_PASSWORD is set without MQTT_USERNAME" in found.wrong[0]
    assert "s3cret" not in config.as_text(found)


def test_the_command_prints_json_and_ends_with_2_when_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, ENABLE_HTTP_TUNNEL="true")
    assert command.main(["config", "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [program["program"] for program in document["programs"]] == [
        "module-controller",
        "controlplane",
        "http-gateway",
    ]
    assert {variable["source"] for variable in document["programs"][0]["variables"]} == {"default", "environment"}
    given(monkeypatch, GRPC_PORT="70000")
    assert command.main(["config"]) == 2
    assert "GRPC_PORT=70000: " in capsys.readouterr().out


def test_complaints_are_shown_and_do_not_change_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, ENABLE_HTTP_TUNNEL="true", REPORT_HOOKS="YOUR_REPORT_HOOKS")
    line = "REPORT_HOOKS=********: hook 1 (***) gets no reports: it is not a URL"
    assert command.main(["config"]) == 0
    shown = capsys.readouterr().out
    assert f"wrong, though the start goes on:\n  {line}\n" in shown
    assert "nothing is wrong" not in shown
    assert command.main(["config", "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["complaints"], document["wrong"]) == ([line], [])


def test_a_misspelt_variable_of_a_program_that_does_not_run_is_a_complaint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, ENABLE_HTTP_TUNNEL="true", MQTT_BROKERS="hush")
    found = survey()
    line = "MQTT_BROKERS: there is no such variable. Did you mean MQTT_BROKER? Rename or unset it"
    assert (found.wrong, found.complaints) == ((), (line,))
    assert command.main(["config"]) == 0
    shown = capsys.readouterr().out
    assert f"wrong, though the start goes on:\n  {line}\n" in shown
    assert "hush" not in shown


def test_a_misspelt_variable_of_a_program_that_runs_is_wrong_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, ENABLE_HTTP_TUNNEL="true", HTTP_TUNNEL_TOKENS="t", VNODE_WORKER_NUMM="3", ENABLE_HTTP_TUNEL="1")
    found = survey()
    assert [line.partition(":")[0] for line in found.wrong] == [
        "ENABLE_HTTP_TUNEL",
        "VNODE_WORKER_NUMM",
        "HTTP_TUNNEL_TOKENS",
    ]
    assert found.complaints == ()


@pytest.mark.parametrize("cls", [*map(PROGRAMS.__getitem__, PROGRAM_NAMES), LocalBrokerSettings])
def test_no_program_takes_a_variable_of_another_for_a_misspelt_one(
    monkeypatch: pytest.MonkeyPatch, cls: type[Settings]
) -> None:
    given(monkeypatch, **dict.fromkeys(VARIABLES, "x"))
    assert not misspelt(names(cls))


@pytest.mark.parametrize("cls", [SupervisorSettings, QuickstartSettings])
def test_module_controller_knows_the_variables_of_its_programs(
    monkeypatch: pytest.MonkeyPatch, cls: type[Settings]
) -> None:
    given(monkeypatch, HTTP_TUNNEL_LISTEN_HOST="127.0.0.1")
    assert misspelt(names(cls)), "choose a variable whose name is close to one of its own"
    assert not misspelt(names(cls), VARIABLES)
    assert not survey().complaints


def test_programs_that_can_be_asked_for_are_those_with_settings() -> None:
    assert {"module-controller", *PROGRAM_NAMES} == PROGRAMS.keys()


def test_an_unwritable_folder_is_no_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    given(monkeypatch, EMBEDDED_DB=str(blocked / "cluster.db"), ENABLE_HTTP_TUNNEL="true")
    found = survey()
    assert not found.wrong
    (shown,) = (
        variable for program in found.programs for variable in program.variables if variable.name == "EMBEDDED_DB"
    )
    assert (shown.value, shown.source.value) == (f"{blocked}/cluster.db", "environment")
