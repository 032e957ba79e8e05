"""Options of the program that runs simulated bases."""

import pytest

from simulatedbase.base import Fleet, SimulatedBase, profiles
from simulatedbase.options import Options
from simulatedbase.profile import Faults, MultiVersion, Profile, Tunnel, hit


def parse(arguments: str) -> Options:
    return Options(arguments.split())


def profile(arguments: str) -> Profile:
    return parse(arguments).profile


def test_defaults_are_those_of_a_java_base() -> None:
    options = parse("")
    made = options.profile
    assert (made.identity, made.port, made.http_interval, made.controller) == ("base", None, 12.0, "")
    assert not hit(options.faults().fail_install, "a", "1")


def test_options_set_the_switches() -> None:
    switches = parse(
        "--fail-install a --fail-install b:1 --hang health --slow installBiz=1.5 --slow *=0.5 "
        "--mute --drop-replies uninstallBiz --fail-uninstall a:1"
    ).faults()
    assert [hit(switches.fail_install, *key) for key in (("a", "9"), ("b", "1"), ("b", "2"))] == [True, True, False]
    assert (hit(switches.hang, "health"), hit(switches.hang, "help")) == (True, False)
    assert (switches.delay("installBiz"), switches.delay("help")) == (1.5, 0.5)
    assert hit(switches.drop_replies, "uninstallBiz")
    assert (hit(switches.fail_uninstall, "a", "1"), hit(switches.fail_uninstall, "a", "2")) == (True, False)
    assert switches.mute
    switches.clear()
    assert switches == Faults()


def test_each_base_has_switches_of_its_own() -> None:
    options = parse("--hang health")
    first, second = options.faults(), options.faults()
    first.clear()
    assert hit(second.hang, "health")


def test_fail_install_without_a_name_means_all() -> None:
    assert hit(parse("--fail-install").faults().fail_install, "any", "1")


def test_the_token_is_a_part_of_the_url_and_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTP_TUNNEL_TOKEN", raising=False)
    assert profile("--controller http://c:7777/").endpoint == "http://c:7777"
    monkeypatch.setenv("HTTP_TUNNEL_TOKEN", "a/b")
    made = profile("--controller http://c:7777/")
    assert made.endpoint == "http://c:7777/t/a%2Fb"
    assert "a/b" not in repr(made)
    assert profile("--controller http://c:7777 --token other").endpoint == "http://c:7777/t/other"
    assert profile("").endpoint == ""


def test_options_set_the_behaviour() -> None:
    made = profile("--multi-version switch --metaspace-max -1 --controller http://127.0.0.1:7777/ --ip 10.0.0.7")
    assert made.multi_version is MultiVersion.SWITCH
    assert not made.shared_paths
    assert profile("--shared-paths").shared_paths
    assert (made.metaspace_max, made.controller, made.ip) == (-1, "http://127.0.0.1:7777", "10.0.0.7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--port 70000", "--port 70000: must be less than or equal to 65535"),
        ("--port x", "--port x: must be a valid integer"),
        ("--count 0", "--count 0: must be greater than or equal to 1"),
        ("--hang launchBiz", "--hang launchBiz: not a command: help, installBiz"),
        ("--slow health", "health is not of the form COMMAND=S"),
        ("--slow health=-1", "--slow -1: must be greater than or equal to 0"),
        ("--install-time nan", "--install-time nan: must be a finite number"),
        ("--heartbeat-interval 0", "--heartbeat-interval 0: must be greater than 0"),
        ("--controller 127.0.0.1:7777", "is not a URL like http://127.0.0.1:7777"),
        ("--controller http://127.0.0.1:x", "Port could not be cast"),
        ("--multi-version all", "--multi-version all: must be 'default', 'both' or 'switch'"),
        ("--tunnel carrier-pigeon", "--tunnel carrier-pigeon: must be"),
        ("--tunnel mqtt", "--tunnel mqtt: --broker (MQTT_BROKER) is not set, and must be"),
        ("--tunnel both --broker b --identity a/b", "--identity a/b: topics cannot hold it"),
        ("--tunnel mqtt --broker b --mqtt-port 0", "--mqtt-port (MQTT_PORT)=0: "),
        (
            "--tunnel mqtt --broker b --mqtt-cert c.pem",
            "(MQTT_CLIENT_KEY_PATH) belong together: set both or neither",
        ),
        (
            "--tunnel mqtt --broker b --mqtt-ca nowhere.pem",
            "--mqtt-ca (MQTT_CA_PATH)=nowhere.pem: cannot be used",
        ),
        ("--env a.b", "environment 'a.b' is not a DNS label"),
        ("--clock-skew inf", "--clock-skew inf: must be a finite number"),
    ],
)
def test_wrong_options_are_refused(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "POST /admin/deactivate" in text
    assert "(default: 12 over HTTP" in text
    assert "(default: 128.0)" in text


@pytest.mark.parametrize(("port", "ports"), [(5000, [5000, 5001, 5002]), (0, [0, 0, 0]), (None, [None, None, None])])
def test_many_bases_have_numbered_identities_and_ports(port: int | None, ports: list[int | None]) -> None:
    made = profiles(Profile(identity="base", port=port), 3)
    assert [each.identity for each in made] == ["base-1", "base-2", "base-3"]
    assert [each.port for each in made] == ports


def test_one_profile_keeps_its_identity() -> None:
    (made,) = profiles(Profile(identity="base", port=5000), 1)
    assert (made.identity, made.port) == ("base", 5000)


def test_a_base_is_selected_by_its_identity() -> None:
    fleet = Fleet([SimulatedBase(each) for each in profiles(Profile(identity="base"), 2)])
    assert [base.identity for base in fleet.select("")] == ["base-1", "base-2"]
    assert [base.identity for base in fleet.select("base-2")] == ["base-2"]
    with pytest.raises(KeyError):
        fleet.select("base-3")


@pytest.fixture(autouse=True)
def _no_broker_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER", "PORT", "USERNAME", "PASSWORD", "CA_PATH", "CLIENT_CRT_PATH", "CLIENT_KEY_PATH"):
        monkeypatch.delenv(f"MQTT_{name}", raising=False)


def account(made: Profile) -> tuple[str, int, str, str]:
    assert made.broker is not None
    return made.broker.broker, made.broker.port, made.broker.username, made.broker.password.get_secret_value()


def test_options_set_the_mqtt_tunnel() -> None:
    made = profile(
        "--tunnel both --broker broker.example --mqtt-port 8883 --mqtt-username u --mqtt-password p "
        "--mqtt-prefix shop --env Prod --clock-skew -30 --heartbeats-survive --reconnect-longest 4"
    )
    assert account(made) == ("broker.example", 8883, "u", "p")
    assert made.broker is not None
    assert made.broker.client_id_of("10.0.0.7") == "shop@@@10.0.0.7"
    assert (made.tunnel, made.env, made.clock_skew) == (Tunnel.BOTH, "prod", -30.0)
    assert (made.heartbeats_survive, made.reconnect_longest) == (True, 4.0)
    assert (made.http_interval, made.mqtt_interval) == (12.0, 10.0)
    assert "'p'" not in repr(made.broker)


def test_the_environment_sets_the_mqtt_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BROKER": "b", "PORT": "1884", "USERNAME": "u", "PASSWORD": "secret"}.items():
        monkeypatch.setenv(f"MQTT_{name}", value)
    assert account(profile("--tunnel mqtt")) == ("b", 1884, "u", "secret")
    assert account(profile("--tunnel mqtt --broker c --mqtt-port 1")) == ("c", 1, "u", "secret")
    assert profile("").broker is None


def test_a_port_of_a_kubernetes_service_is_refused_only_with_mqtt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MQTT_PORT", "tcp://10.0.0.1:1883")
    assert profile("").broker is None
    with pytest.raises(SystemExit):
        parse("--tunnel mqtt --broker b")
    assert "--mqtt-port (MQTT_PORT)=tcp://10.0.0.1:1883: " in capsys.readouterr().err


def test_the_interval_holds_for_both_tunnels() -> None:
    made = profile("--heartbeat-interval 3")
    assert (made.http_interval, made.mqtt_interval) == (3.0, 3.0)


def test_an_old_runtime_has_its_own_http_interval() -> None:
    made = profile("--runtime 1.3.3")
    assert (made.old, made.http_interval, made.mqtt_interval) == (True, 120.0, 10.0)
