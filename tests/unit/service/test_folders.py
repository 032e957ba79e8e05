"""Programs find a folder for their state, also where there is no home folder."""

import pwd
from pathlib import Path

import pytest

from controlplane.settings import ControlPlaneSettings
from modulecontroller.quickstart import default_data_dir
from service.process import give_home
from service.settings import read, state_folder


def test_a_named_folder_goes_before_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_folder() == Path("/home/somebody/.local/state/koupleless-module-controller")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state_folder() == Path("/state/koupleless-module-controller")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user whom /etc/passwd does not know, without HOME."""
    for name in ("HOME", "XDG_STATE_HOME", "EMBEDDED_DB"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("nobody")
def test_a_user_without_home_folder_has_defaults() -> None:
    assert default_data_dir() == Path("/var/lib/koupleless-module-controller/quickstart")
    assert read(ControlPlaneSettings).embedded_db == "/var/lib/koupleless-module-controller/cluster.db"


@pytest.mark.usefixtures("nobody")
def test_libraries_find_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")  # so that monkeypatch restores it
    monkeypatch.delenv("HOME")
    give_home()
    assert Path.home() == Path("/")


def test_a_known_home_folder_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    give_home()
    assert Path.home() == Path("/home/somebody")
