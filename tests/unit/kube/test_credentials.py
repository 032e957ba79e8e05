from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trustme

from controlplane.kube import credentials
from controlplane.kube.credentials import CannotConnect, ConfiguredCredentials


def _kubeconfig(tmp_path: Path, user: str, cluster: str = "server: http://127.0.0.1:1") -> str:
    path = tmp_path / "config"
    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{{cluster}}}}}]
users: [{{name: u, user: {{{user}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""
    )
    return str(path)


async def test_a_token(tmp_path: Path) -> None:
    access = await ConfiguredCredentials(_kubeconfig(tmp_path, "token: secret")).access()
    assert access.host == "http://127.0.0.1:1"
    assert access.authorization == "Bearer secret"
    assert access.tls is None


async def test_a_token_file_is_read_again_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    configured = ConfiguredCredentials(_kubeconfig(tmp_path, f"tokenFile: {token}"))
    assert (await configured.access()).authorization == "Bearer one"
    token.write_text("two")
    assert (await configured.access()).authorization == "Bearer one"
    monkeypatch.setattr(credentials, "REFRESH_AFTER", 0.0)
    assert (await configured.access()).authorization == "Bearer two"


async def test_a_refused_token_is_read_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "RELOAD_AFTER", 0.0)
    configured = ConfiguredCredentials(_kubeconfig(tmp_path, "token: one"))
    await configured.load()
    _kubeconfig(tmp_path, "token: two")
    await configured.rejected()
    assert (await configured.access()).authorization == "Bearer two"


async def test_refusals_in_a_row_do_not_load_in_a_row(tmp_path: Path) -> None:
    configured = ConfiguredCredentials(_kubeconfig(tmp_path, "token: one"))
    await configured.load()
    _kubeconfig(tmp_path, "token: two")
    await configured.rejected()
    assert (await configured.access()).authorization == "Bearer one"


async def test_what_cannot_be_refreshed_stays_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    configured = ConfiguredCredentials(_kubeconfig(tmp_path, f"tokenFile: {token}"))
    await configured.load()
    token.unlink()
    monkeypatch.setattr(credentials, "REFRESH_AFTER", 0.0)
    assert (await configured.access()).authorization == "Bearer one"


async def test_an_exec_plugin_is_asked(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"""#!{sys.executable}
print('{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"from-plugin"}}}}')
"""
    )
    plugin.chmod(0o755)
    user = f"exec: {{apiVersion: client.authentication.k8s.io/v1, command: {plugin}}}"
    access = await ConfiguredCredentials(_kubeconfig(tmp_path, user)).access()
    assert access.authorization == "Bearer from-plugin"


async def test_a_rotated_ca_makes_a_new_tls_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = tmp_path / "ca.crt"
    trustme.CA().cert_pem.write_to_path(ca)
    cluster = f'server: "https://127.0.0.1:1", certificate-authority: {ca}'
    configured = ConfiguredCredentials(_kubeconfig(tmp_path, "token: t", cluster))
    monkeypatch.setattr(credentials, "REFRESH_AFTER", 0.0)
    first = (await configured.access()).tls
    assert first is not None
    assert (await configured.access()).tls is first
    trustme.CA().cert_pem.write_to_path(ca)
    assert (await configured.access()).tls is not first


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "a: b", "clusters: 7\ncurrent-context: x", "current-context: x\ncontexts: [{name: x}]", "\t:"],
)
async def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(CannotConnect, match=f"kubeconfig {path}: "):
        await ConfiguredCredentials(str(path)).load()


async def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match="no such file"):
        await ConfiguredCredentials(str(tmp_path / "none")).load()


async def test_a_missing_ca_is_named(tmp_path: Path) -> None:
    cluster = f'server: "https://127.0.0.1:1", certificate-authority: {tmp_path / "none"}'
    with pytest.raises(CannotConnect, match="none"):
        await ConfiguredCredentials(_kubeconfig(tmp_path, "token: t", cluster)).load()


async def test_outside_a_pod_the_service_account_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CannotConnect, match="service account of this Pod: "):
        await ConfiguredCredentials().load()
