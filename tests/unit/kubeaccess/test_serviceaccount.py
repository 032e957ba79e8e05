"""In a Pod the files of the service account are read as the official client reads them."""

from pathlib import Path

import pytest
import trustme
from kubernetes.aio.config import incluster_config

from kubeaccess.authorization import CannotConnect
from kubeaccess.sources import PodSource


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("first\n")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


async def test_token_and_ca_are_read_again(pod: Path) -> None:
    source = PodSource()
    first = await source.fetch(renew=False)
    assert (first.host, first.authorization, first.proxy) == ("https://[fd00::1]:443", "Bearer first", None)
    (pod / "token").write_text("second")
    second = await source.fetch(renew=False)
    assert second.authorization == "Bearer second"
    assert second.tls is first.tls
    trustme.CA().cert_pem.write_to_path(pod / "ca.crt")
    assert (await source.fetch(renew=False)).tls is not first.tls


@pytest.mark.parametrize(("name", "problem"), [("token", "token file"), ("ca.crt", "certification file")])
async def test_a_file_that_is_missing_is_named(pod: Path, name: str, problem: str) -> None:
    (pod / name).unlink()
    source = PodSource()
    with pytest.raises(CannotConnect, match=f"(?i){problem} does not exist"):
        await source.fetch(renew=False)


async def test_the_proxy_of_the_environment_is_used(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    source = PodSource()
    access = await source.fetch(renew=False)
    assert access.proxy is not None
    assert access.proxy.url == "http://proxy:3128"
    monkeypatch.setenv("NO_PROXY", "fd00::/8")
    assert (await source.fetch(renew=False)).proxy is None
