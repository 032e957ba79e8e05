"""What the quick start runs, and what it prints."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modulecontroller import quickstart
from modulecontroller.settings import QuickstartSettings
from service.process import StartError
from simulatedbase.options import Options

FOLDER = Path("/data")


def settings(*, mqtt: bool = False, **values: Any) -> QuickstartSettings:
    return QuickstartSettings.model_validate({"ENABLE_HTTP_TUNNEL": not mqtt, "ENABLE_MQTT_TUNNEL": mqtt} | values)


def test_http_bases_get_the_address_of_their_gateway() -> None:
    program = quickstart.simulated_bases(settings(HTTP_TUNNEL_LISTEN_PORT=7000), 3)
    options = Options(program.arguments)
    assert options.run.count == 3
    assert (options.profile.controller, options.profile.tunnel.value) == ("http://127.0.0.1:7000", "http")
    assert program.environ == {}


def test_mqtt_bases_use_the_embedded_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    program = quickstart.simulated_bases(settings(mqtt=True, MQTT_PORT=1884, ENV="Test"), 3)
    for name, value in program.environ.items():
        monkeypatch.setenv(name, value)
    profile = Options(program.arguments).profile
    assert profile.broker is not None
    assert (profile.tunnel.value, profile.broker.broker, profile.broker.port, profile.env) == (
        "mqtt",
        "127.0.0.1",
        1884,
        "test",
    )


def test_mqtt_bases_use_a_given_broker_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BROKER", "broker.example")
    monkeypatch.setenv("MQTT_USERNAME", "user")
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    wanted = settings(mqtt=True, MQTT_BROKER="broker.example")
    program = quickstart.simulated_bases(wanted, 3)
    profile = Options(program.arguments).profile
    assert profile.broker is not None
    assert (profile.broker.broker, profile.broker.password.get_secret_value()) == ("broker.example", "secret")
    assert "secret" not in " ".join(program.arguments)
    assert not quickstart.runs_broker(wanted)
    assert "MQTT_BROKER" not in quickstart.environ(wanted, FOLDER)


def test_credentials_of_a_given_broker_do_not_reach_the_embedded_one() -> None:
    environ = quickstart.environ(settings(mqtt=True), FOLDER)
    assert (environ["MQTT_BROKER"], environ["MQTT_PASSWORD"], environ["MQTT_CA_PATH"]) == ("127.0.0.1", "", "")
    assert "MQTT_BROKER" not in quickstart.environ(settings(), FOLDER)


def test_a_missing_package_is_reported_with_both_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "find_spec", lambda _: None)
    with pytest.raises(
        StartError, match=r"install it \(pip install .*\[broker\]'\), or name a broker with MQTT_BROKER"
    ):
        quickstart.embedded_broker(settings(mqtt=True))


def test_the_welcome_over_http_names_address_and_bases() -> None:
    text = quickstart.welcome(settings(), 2, FOLDER)
    assert "HTTP tunnel for bases       127.0.0.1:7777" in text
    assert "base-1 to base-2" in text
    assert "MQTT" not in text


def test_the_welcome_over_mqtt_names_broker_and_topics() -> None:
    text = quickstart.welcome(settings(mqtt=True, ENV="Prod"), 1, FOLDER)
    assert (
        "MQTT broker                 127.0.0.1:1883 (for trying out only: no passwords, no TLS, nothing is kept)"
        in text
    )
    assert "koupleless_prod/IDENTITY/base/heart" in text
    assert "koupleless_prod/IDENTITY/installBiz" in text
    assert "HTTP tunnel" not in text
    text = quickstart.welcome(settings(mqtt=True, MQTT_BROKER="broker.example", MQTT_PORT=8883), 1, FOLDER)
    assert "MQTT broker                 broker.example:8883 (MQTT_BROKER, MQTT_PORT)" in text


def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="Not a directory; name a folder that can be written"):
        quickstart.assembled(settings(), bases=0, data_dir=tmp_path / "file" / "below")


@pytest.mark.looptime
async def test_pending_work_is_printed_until_all_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    ready = asyncio.Event()
    waiting = asyncio.create_task(quickstart.until_ready(ready, lambda: ["controlplane: not started yet", "b: away"]))
    await asyncio.sleep(7.0)
    ready.set()
    await waiting
    assert capsys.readouterr().out.splitlines() == [
        "    3 s  controlplane: not started yet; b: away",
        "    6 s  controlplane: not started yet; b: away",
    ]


def test_the_path_of_the_example_is_relative_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = quickstart.example("biz1.yaml")
    assert path.is_file()
    monkeypatch.chdir(path.parent.parent)
    assert f"apply -f {path.parent.name}/biz1.yaml\n" in quickstart.welcome(settings(), 2, FOLDER)
    monkeypatch.chdir(tmp_path)
    assert f"apply -f {path}\n" in quickstart.welcome(settings(), 2, FOLDER)
