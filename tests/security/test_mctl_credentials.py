"""A hostile server never gets a credential from mctl that is not for it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import yaml

from mctl.auth.choice import Login, Logins
from mctl.auth.places import write_logins
from tests.fakes.guarded import GuardedServer, ca_file

TIMEOUT = 60.0
SECRET = "kubeconfig-secret"
TRUSTED, HOSTILE = trustme.CA(), trustme.CA()

UNREACHABLE, UNAUTHENTICATED, USAGE, DONE = 5, 7, 2, 0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder of somebody who is logged in to a Kubernetes cluster."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.invalid"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "current-context": "prod",
    }
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(yaml.safe_dump(config))
    ca_file(tmp_path, TRUSTED, "trusted.crt")
    ca_file(tmp_path, HOSTILE, "hostile.crt")
    return tmp_path


def mctl(home: Path, server: str, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-m", "mctl", "get", "vnodes", "--server", server, "--request-timeout", "40s", *argv],
        env=kept | {"HOME": str(home)} | environment,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_the_right_server_gets_it(home: Path) -> None:
    with GuardedServer(TRUSTED) as server:
        assert mctl(home, server.address, "--ca", str(home / "trusted.crt")).returncode == DONE
        assert server.guard.secrets == {f"Bearer {SECRET}"}


@pytest.mark.parametrize(
    ("serve", "argv", "code"),
    [
        (lambda: GuardedServer(HOSTILE), ("--ca", "trusted.crt"), UNREACHABLE),
        (lambda: GuardedServer(HOSTILE), ("--ca", "trusted.crt", "--context", "prod"), UNREACHABLE),
        (lambda: GuardedServer(TRUSTED, names=("other.example",)), ("--ca", "trusted.crt"), UNREACHABLE),
        (lambda: GuardedServer(), ("--ca", "trusted.crt"), UNREACHABLE),
        (lambda: GuardedServer(), (), DONE),
        (lambda: GuardedServer(), ("--context", "prod"), USAGE),
        (lambda: GuardedServer(), ("--kubeconfig", ".kube/config"), USAGE),
    ],
    ids=[
        "another CA",
        "another CA, context named",
        "another name",
        "plaintext in place of TLS",
        "plaintext on this machine",
        "plaintext, context named",
        "plaintext, file named",
    ],
)
def test_a_server_that_was_not_proved_to_be_the_right_one_gets_nothing(
    home: Path, serve: Callable[[], GuardedServer], argv: tuple[str, ...], code: int
) -> None:
    with serve() as server:
        done = mctl(home, server.address, *(str(home / each) if "/" in each or "." in each else each for each in argv))
        assert (done.returncode, server.guard.secrets) == (code, set()), done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_a_public_certificate_proves_nothing_until_the_user_names_ca_or_context(home: Path) -> None:
    public = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(home / "hostile.crt")}
    with GuardedServer(HOSTILE) as server:
        server.guard.accepted = {f"Bearer {SECRET}"}
        done = mctl(home, server.address, "--server-name", "localhost", **public)
        assert (done.returncode, server.guard.secrets) == (UNAUTHENTICATED, set()), done.stderr
        assert "is not sent to a server whose CA you did not name" in done.stderr
        named = mctl(home, server.address, "--server-name", "localhost", "--context", "prod", **public)
        assert (named.returncode, server.guard.secrets) == (DONE, {f"Bearer {SECRET}"}), named.stderr


def test_what_a_login_saved_is_for_its_server_only(home: Path) -> None:
    with GuardedServer(TRUSTED) as right, GuardedServer(HOSTILE) as hostile, GuardedServer() as plain:
        login = Login(ca_pem=TRUSTED.cert_pem.bytes().decode(), token="login-secret")
        path = home / ".config" / "koupleless-module-controller" / "mctl.json"
        write_logins(path, Logins(hostile.address, {right.address: login, hostile.address: login}))
        assert mctl(home, right.address).returncode == DONE
        assert mctl(home, hostile.address).returncode == UNREACHABLE
        assert mctl(home, plain.address).returncode == DONE
        assert right.guard.secrets == {"Bearer login-secret"}
        assert hostile.guard.secrets == plain.guard.secrets == set()


def tokens(home: Path) -> None:
    folder = home / ".local" / "state" / "koupleless-module-controller"
    folder.mkdir(parents=True)
    (folder / "tokens.csv").write_text("viewer-secret-of-joe,joe,viewer\nadmin-secret-of-root,root,admin\n")
    (folder / "tokens.csv").chmod(0o600)


def test_the_local_token_goes_to_this_machine_in_plaintext_and_nowhere_else(home: Path) -> None:
    tokens(home)
    with GuardedServer() as local, GuardedServer(HOSTILE) as hostile:
        assert mctl(home, local.address).returncode == DONE
        mctl(home, hostile.address, "--ca", str(home / "hostile.crt"))
        assert local.guard.secrets == {"Bearer admin-secret-of-root"}
        assert "Bearer admin-secret-of-root" not in hostile.guard.secrets


WAITS = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    sys.stderr.buffer.write(listening.accept()[0].recv(65536))
    sys.stderr.flush()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a program as another user")
def test_another_user_who_waits_on_the_port_gets_no_local_token(home: Path) -> None:
    tokens(home)
    with subprocess.Popen(
        ["/usr/bin/env", "python3", "-I", "-c", WAITS],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PATH": os.defpath},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as stranger:
        assert stranger.stdout is not None
        port = int(stranger.stdout.readline())
        done = mctl(home, f"127.0.0.1:{port}")
        stranger.kill()
        _, received = stranger.communicate(timeout=TIMEOUT)
    assert done.returncode == UNAUTHENTICATED, done.stderr
    assert "another user listens" in done.stderr
    assert b"admin-secret-of-root" not in received
