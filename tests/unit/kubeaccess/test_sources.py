"""A kubeconfig gives access, and is read again when it may have changed."""

import asyncio
import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
import yaml

from kubeaccess.access import Access
from kubeaccess.authorization import CannotConnect, token_ends_at
from kubeaccess.sources import KubeconfigSource
from tests.unit.kubeaccess.test_kubeconfig import EXEC, content, written


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Kubeconfig:
    """A source, and the file that it reads."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "config"
        self.clock = Clock()
        self.source = KubeconfigSource(str(self.path), self.clock)

    def write(self, **given: Any) -> None:
        written(self.path, content(**given))

    async def fetch(self, *, renew: bool = False) -> Access:
        return await self.source.fetch(renew=renew)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubeconfig:
    for variable in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(variable, raising=False)
    return Kubeconfig(tmp_path)


def plugin(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{text}\n")
    path.chmod(0o755)
    return {"exec": EXEC | {"command": str(path)}}


def printing(**status: str) -> str:
    credential = {"apiVersion": EXEC["apiVersion"], "kind": "ExecCredential", "status": status}
    return f"print(json.dumps({credential!r}))"


def jwt(exp: object) -> str:
    claims = base64.urlsafe_b64encode(
        yaml.safe_dump({"exp": exp}, default_flow_style=True).replace("exp", '"exp"').encode()
    )
    return f"e30.{claims.decode().rstrip('=')}.c2ln"


async def test_a_token_is_sent_as_bearer(config: Kubeconfig) -> None:
    config.write(user={"token": "secret"})
    access = await config.fetch()
    assert (access.host, access.authorization, access.ends_at) == ("https://api:6443", "Bearer secret", None)
    assert access.tls is not None
    assert "secret" not in repr(access)


async def test_a_token_gives_its_own_end(config: Kubeconfig) -> None:
    config.write(user={"token": jwt(1_700_000_600)})
    assert (await config.fetch()).ends_at == 1_700_000_600.0
    assert token_ends_at(jwt("x")) is None
    assert token_ends_at("a.!.c") is None
    assert token_ends_at("a.bbbbb.c") is None


async def test_a_token_file_takes_precedence_and_is_read_again(config: Kubeconfig, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    config.write(user={"tokenFile": "token", "token": "fallback"})
    assert (await config.fetch()).authorization == "Bearer one"
    token.write_text("two")
    assert (await config.fetch()).authorization == "Bearer two"
    token.unlink()
    assert (await config.fetch()).authorization == "Bearer two", "the last one that was read"


async def test_a_token_serves_while_the_token_file_cannot_be_read(config: Kubeconfig, tmp_path: Path) -> None:
    config.write(user={"tokenFile": "token", "token": "fallback"})
    assert (await config.fetch()).authorization == "Bearer fallback"
    config = Kubeconfig(tmp_path)
    config.write(user={"tokenFile": "token"})
    (tmp_path / "token").write_text("  \n")
    with pytest.raises(CannotConnect, match=r"tokenFile .* is empty"):
        await config.fetch()


@pytest.mark.parametrize("token", ["a\nb", "ä", "a\x00b"])
async def test_a_token_that_cannot_be_a_header_is_refused(config: Kubeconfig, token: str) -> None:
    config.write(user={"token": token})
    with pytest.raises(CannotConnect, match="characters that no token has"):
        await config.fetch()


async def test_user_name_and_password_are_sent_as_basic(config: Kubeconfig) -> None:
    config.write(user={"username": "jane", "password": "pä:ss"})
    assert (await config.fetch()).authorization == "Basic " + base64.b64encode("jane:pä:ss".encode()).decode()


async def test_nothing_is_sent_without_tls_and_that_is_logged(config: Kubeconfig) -> None:
    config.write(user={"token": "secret", "as": "jane"}, cluster={"server": "http://api"})
    with structlog.testing.capture_logs() as logs:
        access = await config.fetch()
    assert (access.authorization, access.tls) == ("", None)
    assert access.impersonation == (("Impersonate-User", "jane"),)
    assert [line["event"] for line in logs] == ["credentials are not sent without TLS, as with kubectl"]


async def test_certificate_and_key_as_data_or_in_files_make_one_context_until_they_change(
    config: Kubeconfig, tmp_path: Path
) -> None:
    authority, leaf = trustme.CA(), trustme.CA().issue_cert("u")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "u.crt")
    config.write(
        cluster={"certificate-authority": "ca.crt"},
        user={
            "client-certificate": "u.crt",
            "client-key-data": base64.b64encode(leaf.private_key_pem.bytes()).decode(),
        },
    )
    first = (await config.fetch()).tls
    assert (await config.fetch()).tls is first
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    assert (await config.fetch()).tls is not first


@pytest.mark.parametrize(
    ("cluster", "user", "problem"),
    [
        ({"certificate-authority": "none"}, {}, r"certificate-authority .*/none: cannot be read"),
        ({"certificate-authority-data": "Yw=="}, {}, "certificate-authority: no PEM"),
        ({}, {"client-certificate": "none", "client-key": "none"}, r"client-certificate .*/none: cannot be read"),
        ({}, {"client-certificate-data": "Yw==", "client-key-data": "Yw=="}, "no PEM pair"),
    ],
)
async def test_files_that_cannot_be_used_are_named(
    config: Kubeconfig, cluster: dict[str, Any], user: dict[str, Any], problem: str
) -> None:
    config.write(cluster=cluster, user=user)
    with pytest.raises(CannotConnect, match=problem):
        await config.fetch()


async def test_a_plugin_is_run_and_run_again_before_its_credential_ends(config: Kubeconfig, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    ends = "2023-11-14T22:23:20.123456789Z"  # 600 s from now
    config.write(
        user=plugin(tmp_path, f"open({str(runs)!r}, 'a').write('x')\n" + printing(token="t", expirationTimestamp=ends))
    )
    access = await config.fetch()
    assert access.authorization == "Bearer t"
    assert access.ends_at == pytest.approx(config.clock.now + 600, abs=1)
    config.clock.now += 265
    await config.fetch()
    assert runs.read_text() == "x"
    config.clock.now += 70
    await config.fetch()
    assert runs.read_text() == "xx"
    config.clock.now -= 335
    await config.fetch(renew=True)
    assert runs.read_text() == "xxx", "the server did not accept it"


async def test_a_plugin_that_names_no_end_is_run_once(config: Kubeconfig, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    config.write(user=plugin(tmp_path, f"open({str(runs)!r}, 'a').write('x')\n" + printing(token="t")))
    for _ in range(3):
        config.clock.now += 100_000
        assert (await config.fetch()).ends_at is None
    assert runs.read_text() == "x"


async def test_a_plugin_may_give_a_certificate(config: Kubeconfig, tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("u")
    pems = {
        "clientCertificateData": leaf.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": leaf.private_key_pem.bytes().decode(),
    }
    config.write(user=plugin(tmp_path, printing(**pems)))
    access = await config.fetch()
    assert access.authorization == ""
    assert access.tls is (await config.fetch()).tls


async def test_a_plugin_is_not_run_where_there_is_a_token(config: Kubeconfig, tmp_path: Path) -> None:
    config.write(user=plugin(tmp_path, "sys.exit(1)") | {"token": "t"})
    assert (await config.fetch()).authorization == "Bearer t"


async def test_a_plugin_gets_variables_arguments_and_the_cluster(config: Kubeconfig, tmp_path: Path) -> None:
    text = """
print(os.environ["A"], os.environ["KUBERNETES_EXEC_INFO"], sys.argv[1:], file=sys.stderr)
print(repr(sys.stdin.read()), file=sys.stderr)
sys.exit(3)
"""
    user = plugin(tmp_path, text)
    user["exec"] |= {"env": [{"name": "A", "value": "b"}], "args": ["c d"], "provideClusterInfo": True}
    config.write(user=user, cluster={"tls-server-name": "other"})
    with pytest.raises(CannotConnect, match="ended with exit code 3") as raised:
        await config.fetch()
    message = str(raised.value)
    assert "b {" in message
    assert '"server":"https://api:6443"' in message
    assert '"tls-server-name":"other"' in message
    assert '"interactive":false' in message
    assert "['c d']\n''" in message, "standard input is empty"


async def test_a_plugin_that_is_missing_is_named_with_its_hint(config: Kubeconfig) -> None:
    config.write(user={"exec": EXEC | {"command": "no-such-plugin", "installHint": "brew install\n it"}})
    with pytest.raises(CannotConnect, match=r"exec plugin no-such-plugin: cannot be run .*; brew install it"):
        await config.fetch()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "printed no ExecCredential"),
        ("print('[]')", "printed no ExecCredential"),
        (printing(), "neither a token nor a certificate"),
        (printing(clientKeyData="k"), "not both"),
        (printing(token="t", expirationTimestamp="tomorrow"), "expirationTimestamp must be a valid datetime"),
        (printing(token="t", expirationTimestamp="2023-11-14T22:23:20"), "expirationTimestamp must have timezone"),
        (printing(token="t").replace("/v1", "/v2"), "client.authentication.k8s.io/v2 instead of"),
        ("print('x' * 3_000_000)", "prints more than 1048576 bytes"),
    ],
)
async def test_wrong_output_of_a_plugin_is_refused(config: Kubeconfig, tmp_path: Path, text: str, problem: str) -> None:
    config.write(user=plugin(tmp_path, text))
    with pytest.raises(CannotConnect, match=problem):
        await config.fetch()


async def test_after_a_refusal_the_kubeconfig_is_read_again(config: Kubeconfig) -> None:
    config.write(user={"token": "one"})
    await config.fetch()
    config.write(user={"token": "two"})
    assert (await config.fetch()).authorization == "Bearer one"
    assert (await config.fetch(renew=True)).authorization == "Bearer two"


@pytest.mark.parametrize(
    ("text", "given_up", "ends_with"),
    [
        ("print('x' * 3_000_000)", False, CannotConnect),
        ("import time; time.sleep(60)", True, asyncio.CancelledError),
    ],
    ids=["too much", "hangs"],
)
async def test_a_plugin_that_is_killed_leaves_no_open_pipes(
    config: Kubeconfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    given_up: bool,
    ends_with: type[BaseException],
) -> None:
    read, runs = asyncio.StreamReader.read, asyncio.Event()

    async def late(self: asyncio.StreamReader, n: int = -1) -> bytes:
        """Let the plugin fill the buffer, so that nothing reads from it when it is killed."""
        runs.set()
        await asyncio.sleep(0.01)
        return await read(self, n)

    monkeypatch.setattr(asyncio.StreamReader, "read", late)
    config.write(user=plugin(tmp_path, text))
    before = set(os.listdir("/proc/self/fd"))
    fetching = asyncio.create_task(config.fetch())
    await runs.wait()
    if given_up:
        fetching.cancel()
    with pytest.raises(ends_with):
        await fetching
    assert set(os.listdir("/proc/self/fd")) <= before


async def test_a_changed_kubeconfig_moves_us_to_no_other_cluster(config: Kubeconfig) -> None:
    config.write(user={"token": "one"})
    await config.fetch()
    given = content(user={"token": "two"})
    given["clusters"].append({"name": "d", "cluster": {"server": "https://elsewhere"}})
    given["contexts"].append({"name": "y", "context": {"cluster": "d", "user": "u"}})
    given["current-context"] = "y"
    written(config.path, given)
    access = await config.fetch(renew=True)
    assert (access.host, access.authorization) == ("https://api:6443", "Bearer two")
    config.write(user={"token": "three"}, cluster={"server": "https://elsewhere"})
    with pytest.raises(CannotConnect, match="another cluster now"):
        await config.fetch(renew=True)
    assert (await config.fetch()).host == "https://api:6443"


async def test_the_proxy_is_that_of_the_kubeconfig_or_of_the_environment(
    config: Kubeconfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hush@proxy:3128")
    config.write(user={"token": "t"})
    proxy = (await config.fetch()).proxy
    assert proxy is not None
    assert (proxy.url, proxy.password) == ("http://proxy:3128", "hush")
