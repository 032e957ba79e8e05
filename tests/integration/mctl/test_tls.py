"""mctl over TLS: what it sends to whom, and what it says when server and options do not fit."""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
import yaml
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.__main__ import main
from tests.fakes.guarded import GuardedServer, ca_file
from tests.fakes.tooling import Fault
from tests.integration.mctl.conftest import Mctl, Outcome, vnode

AUTHORITY = trustme.CA()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and no variable that says who we are."""
    for name in ("KUBECONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MCTL_CA", ca_file(tmp_path, AUTHORITY))
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Mctl:
    def call(*argv: str) -> Outcome:
        code = main(list(argv))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def kubeconfig(home: Path, user: dict[str, Any], **cluster: str) -> Path:
    """Make a user that of the current kubeconfig."""
    path = home / ".kube" / "config"
    path.parent.mkdir(exist_ok=True)
    clusters = [{"name": "c", "cluster": {"server": "https://api.invalid"} | cluster}]
    contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
    users = [{"name": "u", "user": user}]
    path.write_text(
        yaml.safe_dump({"clusters": clusters, "contexts": contexts, "users": users, "current-context": "x"})
    )
    return path


def plugin(home: Path, *, lasts: float) -> dict[str, Any]:
    """Return the entry of an exec plugin whose tokens are t1, t2, ... and last so many seconds."""
    script = home / "plugin"
    script.write_text(
        f"""#!{sys.executable}
import datetime, json, pathlib
runs = pathlib.Path({str(home / "runs")!r})
runs.write_text((runs.read_text() if runs.exists() else "") + "x")
ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds={lasts})
status = {{"token": f"t{{len(runs.read_text())}}", "expirationTimestamp": ends.isoformat()}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""
    )
    script.chmod(0o755)
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script),
        "interactiveMode": "IfAvailable",
    }
    return {"exec": command}


@pytest.mark.parametrize(
    ("user", "sent"),
    [({"token": "abc"}, "Bearer abc"), ({"tokenFile": "token"}, "Bearer filed"), (None, "Bearer t1")],
    ids=["token", "tokenFile", "exec"],
)
def test_the_user_of_the_current_kubeconfig_asks(home: Path, run: Mctl, user: dict[str, Any] | None, sent: str) -> None:
    kubeconfig(home, user or plugin(home, lasts=600))
    (home / ".kube" / "token").write_text("filed\n")
    with GuardedServer(AUTHORITY) as server:
        server.guard.accepted = {sent}
        server.fake.vnodes = [vnode("base-1")]
        outcome = run("get", "vnodes", "-o", "name", "--server", server.address)
        assert (outcome.code, outcome.out, outcome.err) == (0, "vnode/vnode.base-1.dev\n", "")
        assert server.guard.secrets == {sent}


def test_warnings_are_not_among_the_output(home: Path, run: Mctl) -> None:
    kubeconfig(home, {"tokenFile": "missing", "token": "kube"})
    with GuardedServer(AUTHORITY) as server:
        outcome = run("get", "vnodes", "-o", "json", "--server", server.address)
        assert json.loads(outcome.out) == {"items": []}
        assert outcome.err.startswith("mctl: warning: the token that was read last is used (tokenFile ")
        assert outcome.err.count("\n") == 1


def test_a_client_certificate_of_the_kubeconfig_or_of_options_asks(home: Path, run: Mctl) -> None:
    clients = trustme.CA()
    leaf = clients.issue_cert("u")
    leaf.cert_chain_pems[0].write_to_path(home / "u.crt")
    leaf.private_key_pem.write_to_path(home / "u.key")
    pair = ("--cert", str(home / "u.crt"), "--key", str(home / "u.key"))
    with GuardedServer(AUTHORITY, client_ca=clients) as server:
        refused = run("get", "vnodes", "--server", server.address, "--request-timeout", "2s")
        assert (refused.code, "another client certificate: --cert and --key" in refused.err) == (5, True)
        assert run("get", "vnodes", "--server", server.address, *pair).code == 0
        kubeconfig(home, {"client-certificate": str(home / "u.crt"), "client-key": str(home / "u.key")})
        assert run("get", "vnodes", "--server", server.address).code == 0


def test_options_go_before_variables_and_may_stand_before_the_command(
    home: Path, run: Mctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig(home, {"token": "kube"})
    (home / "token").write_text("filed")
    with GuardedServer(AUTHORITY) as server:
        monkeypatch.setenv("MCTL_SERVER", server.address)
        monkeypatch.setenv("MCTL_TOKEN", "variable")
        run("get", "vnodes")
        run("--token-file", str(home / "token"), "get", "vnodes")
        run("--token-file", str(home / "token"), "get", "vnodes", "--token", "last")
        assert server.guard.seen == ["Bearer variable", "Bearer filed", "Bearer last"]


def test_who_is_unknown_gets_code_7_and_what_to_do(home: Path, run: Mctl) -> None:
    with GuardedServer(AUTHORITY) as server:
        server.guard.accepted = set()
        outcome = run("get", "vnodes", "--server", server.address)
        assert (outcome.code, outcome.out) == (7, "")
        assert outcome.err.splitlines() == [
            f"mctl: the control plane at {server.address} does not know who you are: no valid token",
            "mctl: no credential was given, and there is no kubeconfig: use --token-file, --token or --kubeconfig",
        ]
        for user, problem in (
            ({"token": "kube", "as": "somebody"}, "does not know as"),
            ({"username": "joe", "password": "kube"}, "knows no user names"),
            ({}, "has no credential"),
        ):
            kubeconfig(home, user)
            assert problem in run("get", "vnodes", "--server", server.address).err
            named = run("get", "vnodes", "--server", server.address, "--context", "x")
            assert (named.code, problem in named.err) == (7, True)
        assert server.guard.secrets == set()


def test_who_may_not_gets_code_8(home: Path, run: Mctl) -> None:
    with GuardedServer(AUTHORITY) as server:
        server.fake.fail("ListVNodes", Fault(grpc.StatusCode.PERMISSION_DENIED, "joe cannot list nodes"))
        outcome = run("get", "vnodes", "--server", server.address)
        assert (outcome.code, outcome.out) == (8, "")
        assert outcome.err.startswith("mctl: joe cannot list nodes\nmctl: mctl auth whoami shows who you are")


def test_a_token_that_is_not_accepted_any_more_is_renewed_once(home: Path, run: Mctl) -> None:
    kubeconfig(home, plugin(home, lasts=600))
    with GuardedServer(AUTHORITY) as server:
        server.guard.accepted = {"Bearer t2"}
        assert run("get", "vnodes", "--server", server.address).code == 0
        assert server.guard.seen == ["Bearer t1", "Bearer t2"]
        server.guard.accepted = set()
        assert run("get", "vnodes", "--server", server.address).code == 7
        assert server.guard.seen[2:] == ["Bearer t3", "Bearer t4"]


def test_a_watch_takes_the_new_token_when_its_stream_was_ended(
    home: Path, run: Mctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig(home, plugin(home, lasts=600))
    with GuardedServer(AUTHORITY) as server:
        server.guard.accepted = {"Bearer t2"}
        server.fake.events = [pb.Event(reason="First")]
        printed: list[str] = []

        def stop(line: str) -> None:
            printed.append(line)
            raise KeyboardInterrupt

        monkeypatch.setattr("typer.echo", lambda line, **_: stop(line))
        assert run("events", "--watch", "-o", "json", "--server", server.address).code == 130
        assert json.loads(printed[0])["object"]["reason"] == "First"
        assert server.guard.seen == ["Bearer t1", "Bearer t2"]


def test_a_server_with_too_much_to_do_is_asked_after_the_time_that_it_names(home: Path, run: Mctl) -> None:
    with GuardedServer(AUTHORITY) as server:
        server.guard.busy.extend([0.3, 0.3])
        begun = time.monotonic()
        assert run("get", "vnodes", "--server", server.address).code == 0
        assert time.monotonic() - begun >= 0.6
        assert len(server.guard.seen) == 3
        server.guard.busy.append(3600.0)
        outcome = run("get", "vnodes", "--server", server.address)
        assert outcome.code == 5
        assert "too many calls; it asks to wait 3600s" in outcome.err


@pytest.mark.parametrize(
    ("server", "argv", "said"),
    [
        (lambda: GuardedServer(trustme.CA()), (), "is not from the CA that was given"),
        (
            lambda: GuardedServer(AUTHORITY, names=("controlplane.svc",)),
            (),
            "it is for controlplane.svc",
        ),
        (lambda: GuardedServer(AUTHORITY, until=datetime(2021, 1, 1, tzinfo=UTC)), (), "has expired"),
        (lambda: GuardedServer(AUTHORITY), ("--server-name", "other"), "is not for other: it is for"),
        (lambda: GuardedServer(), (), "does not speak TLS"),
        (lambda: GuardedServer(AUTHORITY), ("plaintext",), "speaks TLS, and was asked in plaintext"),
    ],
    ids=["wrong CA", "wrong name", "expired", "wrong override", "plaintext server", "TLS server"],
)
def test_a_failure_of_tls_is_said_as_such_at_once(
    home: Path,
    run: Mctl,
    monkeypatch: pytest.MonkeyPatch,
    server: Callable[[], GuardedServer],
    argv: tuple[str, ...],
    said: str,
) -> None:
    if argv == ("plaintext",):
        monkeypatch.delenv("MCTL_CA")
        argv = ()
    with server() as running:
        for command in (("get", "vnodes"), ("get", "vnodes", "-w")):
            begun = time.monotonic()
            outcome = run(*command, *argv, "--token", "secret", "--server", running.address, "--request-timeout", "60s")
            assert (outcome.code, outcome.out) == (5, "")
            assert said in outcome.err
            assert "unreachable" not in outcome.err
            assert time.monotonic() - begun < 20.0
        assert running.guard.secrets == set()


def test_a_name_that_is_given_is_the_one_that_counts(home: Path, run: Mctl) -> None:
    with GuardedServer(AUTHORITY, names=("controlplane.svc",)) as server:
        assert run("get", "vnodes", "--server", server.address, "--server-name", "controlplane.svc").code == 0
