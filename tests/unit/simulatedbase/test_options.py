"""Options of the program."""

from __future__ import annotations

import argparse

import pytest

from simulatedbase import options as program_options
from simulatedbase.base import SimulatedBase
from simulatedbase.fleet import Fleet, UnknownBase, profiles
from simulatedbase.mqtt.broker import Broker
from simulatedbase.options import faults, profile
from simulatedbase.profile import Faults, MultiVersion, Profile, Tunnel


def parse(arguments: str) -> argparse.Namespace:
    return program_options.parse(arguments.split())


def test_defaults_are_those_of_a_java_base() -> None:
    options = parse("")
    told = profile(options)
    assert (told.identity, told.port, told.heartbeat_interval, told.controller) == ("base", None, 12.0, "")
    assert not faults(options).fails_install("a", "1")


def test_switches() -> None:
    switches = faults(
        parse(
            "--fail-install a --fail-install b:1 --hang health --slow installBiz=1.5 --slow *=0.5 "
            "--mute --drop-replies uninstallBiz --fail-uninstall a:1"
        )
    )
    assert [switches.fails_install(*key) for key in (("a", "9"), ("b", "1"), ("b", "2"))] == [True, True, False]
    assert (switches.hangs("health"), switches.hangs("help")) == (True, False)
    assert (switches.delay("installBiz"), switches.delay("help")) == (1.5, 0.5)
    assert switches.drops_reply("uninstallBiz")
    assert (switches.fails_uninstall("a", "1"), switches.fails_uninstall("a", "2")) == (True, False)
    assert switches.mute
    switches.clear()
    assert switches == Faults()


def test_each_base_has_switches_of_its_own() -> None:
    options = parse("--hang health")
    first, second = faults(options), faults(options)
    first.clear()
    assert second.hangs("health")


def test_fail_install_without_a_name_means_all() -> None:
    assert faults(parse("--fail-install")).fails_install("any", "1")


def test_behaviour() -> None:
    told = profile(parse("--multi-version switch --metaspace-max -1 --controller http://127.0.0.1:7777/ --ip 10.0.0.7"))
    assert told.multi_version is MultiVersion.SWITCH
    assert not told.shared_paths
    assert profile(parse("--shared-paths")).shared_paths
    assert (told.metaspace_max, told.controller, told.ip) == (-1, "http://127.0.0.1:7777", "10.0.0.7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--port 70000", "70000 is not within 0 to 65535"),
        ("--port x", "--port"),
        ("--count 0", "0 is not within 1 to 100000"),
        ("--hang launchBiz", "launchBiz is not a command: help, installBiz"),
        ("--slow health", "health is not of the form COMMAND=SECONDS"),
        ("--slow health=-1", "-1 is not a number of seconds"),
        ("--install-time nan", "nan is not a number of seconds"),
        ("--heartbeat-interval 0", "an interval must be longer than 0 seconds"),
        ("--controller 127.0.0.1:7777", "is not a URL like http://127.0.0.1:7777"),
        ("--controller http://127.0.0.1:x", "Port could not be cast"),
        ("--multi-version all", "--multi-version"),
        ("--tunnel carrier-pigeon", "--tunnel"),
        ("--tunnel mqtt", "--tunnel mqtt: which broker? Name its host with --broker or MQTT_BROKER"),
        ("--tunnel both --broker b --identity a/b", "--identity a/b: topics cannot hold it"),
        ("--tunnel mqtt --broker b --mqtt-port 0", "0 is not within 1 to 65535"),
        ("--tunnel mqtt --broker b --mqtt-cert c.pem", "--mqtt-cert and --mqtt-key are needed both or neither"),
        ("--tunnel mqtt --broker b --mqtt-ca nowhere.pem", "TLS files nowhere.pem cannot be used: No such file"),
        ("--env a.b", "environment 'a.b' is not a DNS label"),
        ("--clock-skew inf", "inf is not a number of seconds"),
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
def test_profiles_of_many(port: int | None, ports: list[int | None]) -> None:
    told = profiles(Profile(identity="base", port=port), 3)
    assert [each.identity for each in told] == ["base-1", "base-2", "base-3"]
    assert [each.port for each in told] == ports


def test_one_profile_keeps_its_identity() -> None:
    assert profiles(Profile(identity="base", port=5000), 1) == [Profile(identity="base", port=5000)]


def test_selection() -> None:
    fleet = Fleet([SimulatedBase(each) for each in profiles(Profile(identity="base"), 2)])
    assert [base.identity for base in fleet.select("")] == ["base-1", "base-2"]
    assert [base.identity for base in fleet.select("base-2")] == ["base-2"]
    with pytest.raises(UnknownBase):
        fleet.select("base-3")


@pytest.fixture(autouse=True)
def _no_broker_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER", "PORT", "USERNAME", "PASSWORD", "CA_PATH", "CLIENT_CRT_PATH", "CLIENT_KEY_PATH"):
        monkeypatch.delenv(f"MQTT_{name}", raising=False)


def test_mqtt() -> None:
    told = profile(
        parse(
            "--tunnel both --broker broker.example --mqtt-port 8883 --mqtt-username u --mqtt-password p "
            "--mqtt-prefix shop --env Prod --clock-skew -30 --heartbeats-survive --reconnect-longest 4"
        )
    )
    assert told.broker == Broker("broker.example", 8883, "u", "p", "shop")
    assert told.broker.client_id("10.0.0.7") == "shop@@@10.0.0.7"
    assert (told.tunnel, told.env, told.clock_skew) == (Tunnel.BOTH, "prod", -30.0)
    assert (told.heartbeats_survive, told.reconnect_longest) == (True, 4.0)
    assert (told.heartbeat_interval, told.mqtt_heartbeat_interval) == (12.0, 10.0)
    assert repr(told.broker) == "Broker(broker.example:8883)"


def test_mqtt_as_the_environment_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BROKER": "b", "PORT": "1884", "USERNAME": "u", "PASSWORD": "secret"}.items():
        monkeypatch.setenv(f"MQTT_{name}", value)
    assert profile(parse("--tunnel mqtt")).broker == Broker("b", 1884, "u", "secret")
    assert profile(parse("--tunnel mqtt --broker c --mqtt-port 1")).broker == Broker("c", 1, "u", "secret")
    assert profile(parse("")).broker is None


def test_mqtt_port_of_a_kubernetes_service(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MQTT_PORT", "tcp://10.0.0.1:1883")
    assert profile(parse("")).broker is None
    with pytest.raises(SystemExit):
        parse("--tunnel mqtt --broker b")
    assert "MQTT_PORT=tcp://10.0.0.1:1883: not a port" in capsys.readouterr().err


def test_interval_of_both_tunnels() -> None:
    told = profile(parse("--heartbeat-interval 3"))
    assert (told.heartbeat_interval, told.mqtt_heartbeat_interval) == (3.0, 3.0)


def test_an_old_runtime() -> None:
    told = profile(parse("--runtime 1.3.3"))
    assert (told.runtime.batches, told.heartbeat_interval, told.mqtt_heartbeat_interval) == (False, 120.0, 10.0)
