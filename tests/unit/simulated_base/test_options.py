"""Options of the program."""

from __future__ import annotations

import argparse

import pytest

from gateways.simulated_base.base import SimulatedBase
from gateways.simulated_base.fleet import Fleet, UnknownBase, profiles
from gateways.simulated_base.options import faults, parser, profile
from gateways.simulated_base.profile import Faults, MultiVersion, Profile


def parse(arguments: str) -> argparse.Namespace:
    return parser().parse_args(arguments.split())


def test_defaults_are_those_of_a_java_base() -> None:
    options = parse("")
    told = profile(options)
    assert (told.identity, told.port, told.heartbeat_interval, told.controller) == ("base", None, 12.0, "")
    assert not faults(options).fails_install("a", "1")


def test_switches() -> None:
    switches = faults(
        parse(
            "--fail-install a --fail-install b:1 --hang health --slow installBiz=1.5 --slow *=0.5 "
            "--mute --drop-replies uninstallBiz"
        )
    )
    assert [switches.fails_install(*key) for key in (("a", "9"), ("b", "1"), ("b", "2"))] == [True, True, False]
    assert (switches.hangs("health"), switches.hangs("help")) == (True, False)
    assert (switches.delay("installBiz"), switches.delay("help")) == (1.5, 0.5)
    assert switches.drops_reply("uninstallBiz")
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
