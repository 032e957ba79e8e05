"""mctl token create works without a server."""

from pathlib import Path

import pytest

from mctl.app import run
from service.tokens import Key

FIRST, SECOND = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTP_TUNNEL_TOKEN_KEYS", raising=False)


def test_the_first_key_makes_the_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{FIRST}\n{SECOND}\n")
    assert run(["token", "create", "--base", "base-1", "--keys", str(tmp_path / "keys")]) == 0
    assert capsys.readouterr().out == Key(FIRST.encode()).token("base-1") + "\n"


@pytest.mark.parametrize("in_file", [True, False])
def test_keys_are_those_of_the_gateway(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_file: bool
) -> None:
    (tmp_path / "keys").write_text(FIRST)
    monkeypatch.setenv("HTTP_TUNNEL_TOKEN_KEYS", str(tmp_path / "keys") if in_file else FIRST)
    assert run(["token", "create", "--base", "base-1"]) == 0
    assert capsys.readouterr().out == Key(FIRST.encode()).token("base-1") + "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--base", "base-1"], "no key: name the gateway's file with --keys"),
        (["--base", "base-1", "--keys", "/none"], "--keys=/none: cannot be read (No such file or directory)"),
        (["--base", "Base_1", "--keys", "KEYS"], "identity 'Base_1' is not a DNS-1123 subdomain"),
        ([], "Missing option"),
    ],
)
def test_what_cannot_be_made_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "keys").write_text(FIRST)
    given = [str(tmp_path / "keys") if argument == "KEYS" else argument for argument in arguments]
    assert run(["token", "create", *given]) == 2
    assert words in capsys.readouterr().err
