"""mctl login, logout and auth: what is saved, shown and asked."""

import json
import re
from pathlib import Path

import pytest
import trustme
import yaml
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from tests.fakes.guarded import GuardedServer, ca_file
from tests.integration.mctl.conftest import Mctl
from tests.integration.mctl.test_tls import AUTHORITY, home, kubeconfig, run

__all__ = ["home", "run"]

JOE = pb.WhoAmIResponse(user="joe", groups=["dev", "ops"], method="token")


def saved(home: Path) -> Path:
    return home / ".config" / "koupleless-module-controller" / "mctl.json"


def test_after_a_login_server_ca_and_context_need_not_be_said(
    home: Path, run: Mctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(home, {"token": "kube"})
    ca = ca_file(home, AUTHORITY)
    monkeypatch.delenv("MCTL_CA")
    with GuardedServer(AUTHORITY) as server:
        server.guard.accepted, server.fake.caller = {"Bearer kube"}, JOE
        done = run("login", "--server", server.address, "--ca", ca, "--yes")
        assert (done.code, done.err) == (0, "")
        assert re.search(r"^SHA-256 ([0-9A-F]{2}:){31}[0-9A-F]{2}$", done.out, re.MULTILINE)
        assert "User:     joe\nGroups:   dev, ops\nKnown by: a token\n" in done.out
        assert saved(home).stat().st_mode & 0o777 == 0o600
        Path(ca).unlink()
        assert run("auth", "whoami").out == "User:     joe\nGroups:   dev, ops\nKnown by: a token\n"
        # The context is saved by its name: another current one is for another cluster.
        other = yaml.safe_load(path.read_text())
        other["contexts"].append({"name": "y", "context": {"cluster": "c", "user": "v"}})
        other["users"].append({"name": "v", "user": {"token": "other"}})
        path.write_text(yaml.safe_dump(other | {"current-context": "y"}))
        assert run("get", "vnodes").code == 0
        assert server.guard.secrets == {"Bearer kube"}
        assert run("logout", server.address).code == 0
        assert json.loads(saved(home).read_text()) == {"current": "", "servers": {}}
        assert run("logout", server.address).code == 3


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("", 2)])
def test_without_a_yes_nothing_is_sent_and_nothing_saved(
    home: Path, run: Mctl, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    (home / "answer").write_text(answer)
    with GuardedServer(AUTHORITY) as server, (home / "answer").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        done = run("login", "--server", server.address, "--token", "secret")
        assert (done.code, server.guard.seen, saved(home).exists()) == (code, [], False)
        assert "nothing was saved" in done.err


def test_a_login_with_which_the_server_does_not_know_us_is_not_saved(home: Path, run: Mctl) -> None:
    with GuardedServer(AUTHORITY) as server:
        server.guard.accepted = set()
        assert run("login", "--server", server.address, "--token", "old", "--yes").code == 7
        assert run("login", "--server", server.address, "--ca", ca_file(home, trustme.CA(), "o"), "--yes").code == 5
        assert not saved(home).exists()


def test_paths_are_saved_so_that_they_hold_in_any_folder(
    home: Path, run: Mctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "token").write_text("filed")
    monkeypatch.chdir(home)
    with GuardedServer(AUTHORITY) as server:
        assert run("login", "--server", server.address, "--token-file", "token", "--yes").code == 0
        monkeypatch.chdir("/")
        assert run("get", "vnodes").code == 0
        assert server.guard.secrets == {"Bearer filed"}


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (("create", "pods", "-n", "prod"), pb.CanIRequest(verb="create", resource="pods", namespace="prod")),
        (
            ("update", "deployments.apps/biz1"),
            pb.CanIRequest(verb="update", group="apps", resource="deployments", name="biz1"),
        ),
        (
            ("get", "leases.coordination.k8s.io"),
            pb.CanIRequest(verb="get", group="coordination.k8s.io", resource="leases"),
        ),
    ],
)
def test_can_i_asks_in_the_words_of_kubectl(
    home: Path, run: Mctl, argv: tuple[str, ...], asked: pb.CanIRequest
) -> None:
    with GuardedServer(AUTHORITY) as server:
        server.fake.allowed = pb.CanIResponse(allowed=True)
        done = run("auth", "can-i", *argv, "--server", server.address)
        assert (done.code, done.out, server.fake.requests["CanI"]) == (0, "yes\n", [asked])
        server.fake.allowed = pb.CanIResponse(reason="no role")
        done = run("auth", "can-i", *argv, "--server", server.address)
        assert (done.code, done.out, done.err) == (1, "no: no role\n", "")


def test_what_is_no_resource_is_refused(home: Path, run: Mctl) -> None:
    assert run("auth", "can-i", "get", "pods/").code == 2
