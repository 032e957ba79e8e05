"""Settings are read from the environment, and refused with variable, value and fix."""

import re

import pytest

from controlplane.settings import ClusterKind, ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from modulecontroller.configuration import VARIABLES
from modulecontroller.settings import QuickstartSettings, SupervisorSettings
from service.settings import ConfigurationError, Settings, Source, describe, effective, load, read

PROGRAMS = [ControlPlaneSettings, HttpGatewaySettings, SupervisorSettings]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES | {"KUBERNETES_SERVICE_HOST"}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_variable_is_documented(program: type[Settings]) -> None:
    table = describe(program)
    for field in program.model_fields.values():
        assert isinstance(field.validation_alias, str)
        assert field.validation_alias in VARIABLES
        assert f"  {field.validation_alias} " in table
        assert field.description


@pytest.mark.parametrize("name", ["ENABLE_MODULE_DEPLOYMENT_CONTROLLER", "ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE"])
def test_both_names_of_the_deployment_controller_turn_it_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert not read(ControlPlaneSettings).policy("v").peers_follow
    monkeypatch.setenv(name, "true")
    assert read(ControlPlaneSettings).policy("v").peers_follow


def test_the_two_names_of_the_deployment_controller_must_not_contradict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_MODULE_DEPLOYMENT_CONTROLLER", "true")
    monkeypatch.setenv("ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE", "true")
    assert read(ControlPlaneSettings).policy("v").peers_follow
    monkeypatch.setenv("ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE", "false")
    with pytest.raises(ConfigurationError) as refused:
        read(ControlPlaneSettings)
    (line,) = refused.value.lines
    assert "ENABLE_MODULE_DEPLOYMENT_CONTROLLER=true" in line
    assert "ENABLE_MODULE_REPLICAS_SYNC_WITH_BASE=false" in line


def test_the_scale_down_delay_is_set_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODULE_SCALE_DOWN_DELAY", "5")
    assert read(ControlPlaneSettings).policy("v").scale_down_delay == 5.0


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_any_variable_the_defaults_hold(program: type[Settings]) -> None:
    assert read(program) == program()


def test_variables_and_defaults_are_those_of_the_original() -> None:
    settings = read(ControlPlaneSettings)
    assert settings.env == "dev"
    assert settings.vnode_worker_num == 8
    assert (settings.grpc_port, settings.health_port, settings.metrics_port, settings.report_port) == (
        50051,
        8081,
        9090,
        8080,
    )
    assert read(HttpGatewaySettings).listen_port == 7777
    assert not read(SupervisorSettings).enable_http_tunnel


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("GRPC_PORT", "0", "greater than or equal to 1"),
        ("GRPC_PORT", "70000", "less than or equal to 65535"),
        ("GRPC_PORT", "x", "valid integer"),
        ("HEALTH_PORT", "-1", "greater"),
        ("METRICS_PORT", "1.5", "integer"),
        ("REPORT_PORT", "99999", "less"),
        ("ENV", "a.b", "DNS label"),
        ("CLIENT_ID", "Upper_Case", "DNS name"),
        ("CLIENT_ID", "a..b", "DNS name"),
        ("CLIENT_ID", "a" * 236, "DNS name"),
        ("CLUSTER", "openstack", "'kubernetes'"),
        ("KUBECONFIG", "/does/not/exist", "no file"),
        ("KUBECONFIG", "x" * 5000, "File name too long"),
        ("VNODE_WORKER_NUM", "-1", "greater"),
        ("ORPHAN_MODULE_POLICY", "maybe", "'own'"),
        ("MODULE_UNINSTALL_TIMEOUT", "0", "greater than 0"),
        ("LOG_FORMAT", "xml", "'json'"),
        ("LOG_LEVEL", "loud", "'debug'"),
    ],
)
def test_wrong_values_are_refused_with_variable_value_and_meaning(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        read(ControlPlaneSettings)
    (line,) = refused.value.lines
    assert line.startswith(f"{name}={value}: ")
    assert text in line
    assert f"{name} is: " in line
    assert not any(term in line for term in ("Value error", "Input should", "unable to"))


def test_all_problems_are_reported_together_and_the_process_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRPC_PORT", "x")
    monkeypatch.setenv("ENV", ".")
    with pytest.raises(SystemExit) as ended:
        load(ControlPlaneSettings)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert "GRPC_PORT=x" in printed
    assert "ENV=." in printed


@pytest.mark.parametrize(
    ("program", "name", "right"),
    [
        (SupervisorSettings, "ENABLE_HTTP_TUNEL", "ENABLE_HTTP_TUNNEL"),
        (MqttGatewaySettings, "MQTT_BROKERS", "MQTT_BROKER"),
        (ControlPlaneSettings, "GRPC_PORTS", "GRPC_PORT"),
        (MqttGatewaySettings, "MQTT_PROT", "MQTT_PORT"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch, program: type[Settings], name: str, right: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError) as refused:
        read(program)
    line = f"{name}: there is no such variable. Did you mean {right}? Rename or unset it"
    assert line in refused.value.lines


@pytest.mark.parametrize("name", ["ENABLE_HTTP_TUNEL", "MQTT_BROKERS", "MQTT_PROT"])
def test_a_misspelt_variable_of_another_program_stops_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    read(ControlPlaneSettings)


def test_a_variable_of_another_program_is_not_taken_for_a_misspelt_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_PORTS", "1")
    read(ControlPlaneSettings, others={"GRPC_PORTS"})


@pytest.mark.parametrize("name", ["MQTT_PORT_1883_TCP", "MQTT_SERVICE_HOST", "ENVIRONMENT_X", "HTTP_PROXY", "PATH2"])
def test_variables_of_other_software_are_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    read(ControlPlaneSettings)


def test_a_port_that_kubernetes_set_for_a_service_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_PORT", "tcp://10.0.0.1:50051")
    with pytest.raises(ConfigurationError, match="enableServiceLinks: false"):
        read(ControlPlaneSettings)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "")
    assert read(ControlPlaneSettings).env == "dev"


def test_values_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "PROD")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    monkeypatch.setenv("CLUSTER", "Embedded")
    settings = read(ControlPlaneSettings)
    assert (settings.env, settings.log_level.value, settings.cluster) == ("prod", "warning", ClusterKind.EMBEDDED)


def test_the_kind_of_the_cluster_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(ControlPlaneSettings).kind is ClusterKind.EMBEDDED
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert read(ControlPlaneSettings).kind is ClusterKind.KUBERNETES
    monkeypatch.setenv("CLUSTER", "embedded")
    assert read(ControlPlaneSettings).kind is ClusterKind.EMBEDDED


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_TUNNEL_TOKEN", "s3cret")
    shown = {variable.name: variable.value for variable in effective(read(HttpGatewaySettings))}
    assert shown["HTTP_TUNNEL_TOKEN"] == "********"
    assert shown["HTTP_TUNNEL_LISTEN_PORT"] == "7777"


def test_each_value_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "PROD")
    monkeypatch.setenv("CLIENT_ID", "mine")
    monkeypatch.setenv("LOG_LEVEL", "")
    imposed = {"CLIENT_ID": "theirs", "GRPC_PORT": "not of this program"}
    settings = read(HttpGatewaySettings, imposed)
    found = {variable.name: (variable.value, variable.source) for variable in effective(settings, imposed)}
    assert found["ENV"] == ("prod", Source.ENVIRONMENT)
    assert found["CLIENT_ID"] == ("theirs", Source.IMPOSED)
    assert found["LOG_LEVEL"] == ("info", Source.DEFAULT)


def test_a_missing_variable_is_named_without_the_values_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "s3cret")
    with pytest.raises(ConfigurationError) as refused:
        read(MqttGatewaySettings)
    assert refused.value.lines[0].startswith("MQTT_BROKER is not set, and must be. ")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "cls", [ControlPlaneSettings, HttpGatewaySettings, MqttGatewaySettings, SupervisorSettings, QuickstartSettings]
)
def test_the_help_shows_the_default_of_every_variable(cls: type[Settings]) -> None:
    text = describe(cls)
    assert "Undefined" not in text
    for line in text.splitlines():
        assert re.search(r"\(default: .+\)$", line), line


def test_the_help_marks_required_variables() -> None:
    (line,) = [line for line in describe(MqttGatewaySettings).splitlines() if line.split()[0] == "MQTT_BROKER"]
    assert line.endswith("(default: none, it must be set)")


def test_no_message_has_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_TOKNE", "hush")
    monkeypatch.setenv("ENV", "http://user:hush@host")
    with pytest.raises(ConfigurationError) as raised:
        read(ControlPlaneSettings)
    message = str(raised.value)
    assert "Did you mean REPORT_TOKEN" in message
    assert "ENV=http://***@host" in message
    assert "hush" not in message
