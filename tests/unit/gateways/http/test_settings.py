"""Settings of TLS and tokens on the port for bases: wrong ones stop the start."""

from pathlib import Path

import pytest

from gateways.http.settings import HttpGatewaySettings
from modulecontroller.configuration import VARIABLES
from service.settings import ConfigurationError, read
from tests.certificates import issued

CRT, KEY, KEYS = "HTTP_TUNNEL_CRT_PATH", "HTTP_TUNNEL_KEY_PATH", "HTTP_TUNNEL_TOKEN_KEYS"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def refused(monkeypatch: pytest.MonkeyPatch, **environ: str) -> str:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as error:
        read(HttpGatewaySettings)
    (line,) = error.value.lines
    return line


def test_certificate_and_key_turn_tls_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read(HttpGatewaySettings).tls_files is None
    files = issued(tmp_path)
    monkeypatch.setenv(CRT, files.crt.path)
    monkeypatch.setenv(KEY, files.key.path)
    found = read(HttpGatewaySettings).tls_files
    assert found is not None
    assert (str(found.crt), str(found.key)) == (f"{CRT}={files.crt.path}", f"{KEY}={files.key.path}")


def test_one_of_both_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, HTTP_TUNNEL_CRT_PATH="/c")
    assert line == f"{CRT}=/c and {KEY}=: one of the two is missing; set both for TLS, or neither"


def test_missing_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, HTTP_TUNNEL_CRT_PATH="/none", HTTP_TUNNEL_KEY_PATH="/none")
    assert line.startswith(f"{CRT}=/none: cannot be read")


def test_wrong_keys_are_refused_without_showing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, HTTP_TUNNEL_TOKEN_KEYS="short-secret")
    assert line.startswith(f"{KEYS}=*** key 1 is not 32 to 1024 printable characters")
    assert "short-secret" not in line


def test_keys_in_a_file_that_is_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, HTTP_TUNNEL_TOKEN_KEYS="/none").startswith(f"{KEYS}=*** cannot be read")
