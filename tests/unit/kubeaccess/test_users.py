"""The user of a kubeconfig, for a program with a person at its terminal."""

import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeaccess.authorization import CannotConnect
from kubeaccess.users import KubeconfigUser
from tests.unit.kubeaccess.test_kubeconfig import EXEC, content, written
from tests.unit.kubeaccess.test_sources import Clock, jwt, plugin, printing


def user(folder: Path, *, attended: bool = True, context: str = "", **given: Any) -> KubeconfigUser:
    return KubeconfigUser(written(folder / "config", content(**given)), Clock(), context, attended=attended)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input is a terminal, on which this descriptor types."""
    master, slave = pty.openpty()
    saved = os.dup(0)
    os.dup2(slave, 0)
    with open(0, closefd=False) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.dup2(saved, 0)
    for descriptor in (master, slave, saved):
        os.close(descriptor)


ASKS = "print('code?', file=sys.stderr)\nassert input() == '1234'\n"


async def test_a_plugin_asks_at_the_terminal_and_shows_what_it_says(
    terminal: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = plugin(tmp_path, ASKS + printing(token="t"))
    given["exec"]["interactiveMode"] = "Always"
    os.write(terminal, b"1234\n")
    assert (await user(tmp_path, user=given).identity(renew=False)).authorization == "Bearer t"
    assert capfd.readouterr().err == "code?\n"


async def test_a_plugin_that_never_asks_gets_no_input_but_is_heard(
    terminal: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.write(terminal, b"1234\n")
    with pytest.raises(CannotConnect, match="exit code 1: what it said is above"):
        await user(tmp_path, user=plugin(tmp_path, ASKS)).identity(renew=False)
    assert "EOFError" in capfd.readouterr().err


async def test_a_plugin_that_must_ask_is_not_run_where_nobody_can_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    given = user(tmp_path, user={"exec": EXEC | {"interactiveMode": "Always"}})
    with pytest.raises(CannotConnect, match="standard input is no terminal"):
        await given.identity(renew=False)


async def test_a_refresh_token_is_left_to_kubectl(tmp_path: Path) -> None:
    config = {"idp-issuer-url": "https://issuer.invalid", "client-id": "c", "refresh-token": "once"}
    for token, problem in ((jwt(Clock().now + 3600), ""), (jwt(Clock().now - 1), "kubectl renews it")):
        given = user(tmp_path, user={"auth-provider": {"name": "oidc", "config": config | {"id-token": token}}})
        if problem:
            with pytest.raises(CannotConnect, match=problem):
                await given.identity(renew=False)
        else:
            assert (await given.identity(renew=False)).authorization == f"Bearer {token}"


async def test_the_user_is_that_of_the_context_that_is_named(tmp_path: Path) -> None:
    files = content(user={"token": "current"})
    files["contexts"].append({"name": "y", "context": {"cluster": "c", "user": "v"}})
    files["users"].append({"name": "v", "user": {"token": "named"}})
    named = KubeconfigUser(written(tmp_path / "config", files), Clock(), "y")
    for renew in (False, True):
        assert (await named.identity(renew=renew)).authorization == "Bearer named"


async def test_an_identity_is_not_printed(tmp_path: Path) -> None:
    assert "secret" not in repr(await user(tmp_path, user={"token": "secret"}).identity(renew=False))
