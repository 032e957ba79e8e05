"""Environment, saved logins, the token file of this machine's control plane."""

import os
from pathlib import Path

import pytest

from mctl.auth.choice import Given, Login, Logins
from mctl.auth.local import admin_token
from mctl.auth.places import from_environment, logins_file, on_this_machine, read_logins, write_logins
from mctl.errors import Unauthenticated, UsageError
from service import listeners
from service.listeners import Listener, on_port

PORT = 50051


def test_variables_say_what_options_say() -> None:
    environ = {"MCTL_SERVER": " h:1 ", "MCTL_TOKEN_FILE": "f", "MCTL_CA": "", "MCTL_OTHER": "x", "TOKEN": "y"}
    assert from_environment(environ) == Given(server="h:1", token_file="f")


def test_what_was_saved_is_read_again_and_is_for_its_user_only(tmp_path: Path) -> None:
    path = logins_file({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert read_logins(path) == Logins()
    logins = Logins("h:1", {"h:1": Login(token="t", ca_pem="PEM"), "g:1": Login(context="x")})
    for _ in range(2):
        write_logins(path, logins)
        assert read_logins(path) == logins
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == [path.name]


def test_logins_that_others_may_read_or_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mctl.json"
    write_logins(path, Logins())
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_logins(path)
    path.chmod(0o600)
    path.write_text('{"servers": {"h:1": {"token": ["secret"]}}}')
    with pytest.raises(UsageError, match="token must be a valid string") as refused:
        read_logins(path)
    assert "secret" not in str(refused.value)


def test_what_is_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = tmp_path / "config"
    environ = {"KUBECONFIG": f"{config}:missing"}
    assert (on_this_machine(environ).local_tokens, on_this_machine(environ).kubeconfig) == ("", "")
    tokens(tmp_path / "koupleless-module-controller")
    config.write_text("{}")
    found = on_this_machine(environ)
    assert found.local_tokens == str(tmp_path / "koupleless-module-controller" / "tokens.csv")
    assert found.kubeconfig == f"{config}:missing"


ADMINS = "a" * 16
LINES = f"{'v' * 16},joe,viewer\n# {'c' * 16},old,admin\n{ADMINS},root,admin\n{'e' * 16},eve,admin\n"


def tokens(folder: Path, text: str = LINES, mode: int = 0o600) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "tokens.csv"
    path.write_text(text)
    path.chmod(mode)
    return path


def listening(monkeypatch: pytest.MonkeyPatch, *uids: int) -> None:
    monkeypatch.setattr(listeners, "on_port", lambda port: [Listener(uid, "1") for uid in uids if port == PORT])


@pytest.mark.parametrize("uids", [(), (os.getuid(),), (0, os.getuid())])
def test_the_first_admins_token_goes_to_the_files_own_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uids: tuple[int, ...]
) -> None:
    listening(monkeypatch, *uids)
    assert admin_token(tokens(tmp_path), PORT) == ADMINS


def test_a_stranger_on_the_port_gets_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening(monkeypatch, os.getuid(), os.getuid() + 1)
    with pytest.raises(Unauthenticated, match="another user listens"):
        admin_token(tokens(tmp_path), PORT)


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        (LINES, 0o644, "chmod 600"),
        (f"{'v' * 16},joe,viewer\n", 0o600, "no line TOKEN,USER,admin"),
        ("v1,joe,viewer\n", 0o600, "line 1: a token has at least 16"),
        ("\xff", 0o600, "line 1 is not token,user,role"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int, problem: str
) -> None:
    listening(monkeypatch)
    with pytest.raises(Unauthenticated, match=problem):
        admin_token(tokens(tmp_path, text, mode), PORT)


def test_listeners_are_those_of_proc(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n"
        "   0: 0100007F:C383 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 77 1 0 100 0 0 10 0\n"
        "   1: 0100007F:C383 0100007F:9999 01 00000000:00000000 00:00000000 00000000 1001 0 78 1 0 20 4 30 10 -1\n"
        "   2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1002 0 79 1 0 100 0 0 10 0\n"
    )
    assert list(on_port(50051, tmp_path)) == [Listener(1000, "77")]
