"""What the process knows as a secret is in nothing that it writes, in whatever form."""

import base64
import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import controlplane
import gateways
import mctl
import modulecontroller
import mqttclient
import simulatedbase
from service import secrets
from service.masking import masked
from service.secrets import MASK, Registry
from service.settings import Settings

PACKAGES = (controlplane, gateways, mctl, modulecontroller, mqttclient, simulatedbase)
REQUIRED: Mapping[str, str] = {"MQTT_BROKER": "broker.example", "MQTT_USERNAME": "u"}
CANARY = "c4nary-Value'of\"a\\secret-of-more-than-32-characters"


def _settings_modules(package: ModuleType) -> Iterator[str]:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2] in ("settings", "broker", "options"):
            yield module.name


def _trees(cls: type[Settings]) -> Iterator[type[Settings]]:
    for below in cls.__subclasses__():
        yield below
        yield from _trees(below)


def _secret_fields() -> list[tuple[type[Settings], str]]:
    for package in PACKAGES:
        for name in _settings_modules(package):
            importlib.import_module(name)
    return sorted(
        {
            (cls, str(field.validation_alias))
            for cls in _trees(Settings)
            if not cls.__module__.startswith("tests.")
            for field in cls.model_fields.values()
            if "SecretStr" in str(field.annotation)
        },
        key=str,
    )


FIELDS = _secret_fields()


def test_the_secret_settings_are_found() -> None:
    assert {name for _, name in FIELDS} >= {"REPORT_TOKEN", "REPORT_HOOKS", "HTTP_TUNNEL_TOKEN", "MQTT_PASSWORD"}


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_every_secret_setting_is_known_once_it_is_read(
    cls: type[Settings], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Registry()
    monkeypatch.setattr("service.settings.register", known.register)
    read = cls(**{**{key: value for key, value in REQUIRED.items() if key in _names(cls)}, name: CANARY})
    values = [value.get_secret_value() for value in vars(read).values() if isinstance(value, SecretStr)]
    assert CANARY in values, "the setting holds what was given"
    assert known.hidden(f"a text with {CANARY} in it") == f"a text with {MASK} in it"


def _names(cls: type[Settings]) -> set[str]:
    return {str(field.validation_alias) for field in cls.model_fields.values()}


def test_no_settings_keep_a_secret_as_plain_text() -> None:
    plain = {
        f"{cls.__name__}: {field.validation_alias}"
        for cls in _trees(Settings)
        for field in cls.model_fields.values()
        if any(word in str(field.validation_alias) for word in ("PASSWORD", "TOKEN", "SECRET", "HOOKS"))
        and "SecretStr" not in str(field.annotation)
        and not str(field.validation_alias).endswith(("_PATH", "_FILE", "_TLS_SECRET"))
    }
    assert plain == set()


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        repr(CANARY),
        json.dumps({"a": CANARY}),
        f"https://h/?a={quote(CANARY, safe='')}",
        f"data: {base64.b64encode(CANARY.encode()).decode()}",
    ],
)
def test_a_known_value_is_hidden_in_all_its_forms(form: str) -> None:
    known = Registry()
    known.register("a", CANARY)
    hidden = known.hidden(form)
    assert MASK in hidden
    assert "c4nary" not in hidden
    assert base64.b64encode(CANARY.encode()).decode()[:20] not in hidden


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("https://oapi.dingtalk.com/robot/send?access_token=0123456789", "0123456789"),
        ("https://u:pass%20word@h/x;http://i/?sign=abcdefgh", "pass word"),
        ("https://u:pass%20word@h/x;http://i/?sign=abcdefgh", "abcdefgh"),
        ("https://hooks.example/services/T00000000/XXXXXXXXXXXXXXXXXXXXXXXX", "XXXXXXXXXXXXXXXXXXXXXXXX"),
        ("slack://TokenAAAA/TokenBBBB/TokenCCCC/#channel", "TokenBBBB"),
        ("first-key,second-key", "second-key"),
    ],
)
def test_the_parts_of_lists_and_urls_are_known_too(value: str, part: str) -> None:
    known = Registry()
    known.register("a", value)
    assert known.hidden(f"refused: {part}.") == f"refused: {MASK}."


@pytest.mark.parametrize("word", ["oapi.dingtalk.com", "https", "robot/send", "access_token"])
def test_what_is_no_secret_of_a_url_stays(word: str) -> None:
    known = Registry()
    known.register("a", "https://oapi.dingtalk.com/robot/send?access_token=0123456789")
    assert known.hidden(word) == word


def test_a_source_keeps_its_newest_values() -> None:
    known = Registry()
    for number in range(100):
        known.register("token", f"value-number-{number:03}")
        known.register("password", "stays-as-it-is")
    assert known.hidden("value-number-099 value-number-096 value-number-095") == f"{MASK} {MASK} value-number-095"
    assert known.hidden("stays-as-it-is") == MASK


def test_sources_are_bounded() -> None:
    known = Registry()
    for number in range(2 * secrets.MOST_SOURCES):
        known.register(str(number), f"value-number-{number:05}")
    assert known.hidden("value-number-00000") == "value-number-00000"
    assert known.hidden(f"value-number-{2 * secrets.MOST_SOURCES - 1:05}") == MASK
    assert len(known._forms) <= 8 * secrets.MOST_SOURCES


@given(st.text(min_size=secrets.SHORTEST, max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_a_known_value_is_nowhere(value: str, before: str, after: str) -> None:
    known = Registry()
    known.register("a", value)
    hidden = known.hidden(f"{before}{value}{after}")
    assert MASK in hidden
    assert value not in hidden or "*" in value


@given(st.text(max_size=200))
def test_any_value_can_be_registered(value: str) -> None:
    known = Registry()
    known.register("a", value)
    assert isinstance(known.hidden(value), str)


def test_what_is_registered_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Registry()
    monkeypatch.setattr("service.masking.KNOWN", known)
    known.register("a", "plain-looking-value")
    assert masked("it is plain-looking-value") == f"it is {MASK}"
