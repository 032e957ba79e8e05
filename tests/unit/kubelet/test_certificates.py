"""Errors in certificate files are reported with variable, value, cause and fix."""

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from controlplane.kubelet.certificates import Files, WrongCertificates
from controlplane.settings import ControlPlaneSettings
from modulecontroller.configuration import VARIABLES
from service.settings import ConfigurationError, read


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "tls.crt"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "tls.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    return Files(*(str(tmp_path / name) for name in ("tls.crt", "tls.key", "ca.crt")))


def problem(files: Files) -> str:
    with pytest.raises(WrongCertificates) as error:
        files.load()
    return str(error.value)


def test_good_files_make_a_context_that_asks_for_client_certificates(files: Files) -> None:
    contents, context = files.load()
    assert context.verify_mode.name == "CERT_OPTIONAL"
    assert context.minimum_version.name == "TLSv1_2"
    assert contents == tuple(Path(path).read_bytes() for path in (files.crt, files.key, files.client_ca))


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("tls.crt", "KUBELET_PROXY_CRT_PATH"),
        ("tls.key", "KUBELET_PROXY_KEY_PATH"),
        ("ca.crt", "KUBELET_PROXY_CLIENT_CA_PATH"),
    ],
)
def test_a_missing_file_is_named(files: Files, tmp_path: Path, name: str, variable: str) -> None:
    (tmp_path / name).unlink()
    text = problem(files)
    assert text.startswith(f"{variable}={tmp_path / name}: cannot be read (No such file or directory); ")
    assert "name another file with" in text


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize("content", [b"", b"no PEM at all", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\xff" * 100])
def test_a_file_without_pem_is_named(files: Files, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"={tmp_path / name}" in problem(files)


def test_a_key_of_another_certificate_is_reported(files: Files) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(files.key)
    assert "not a certificate and its key" in problem(files)


def test_a_key_with_a_password_is_reported_without_asking_for_it(files: Files) -> None:
    command = ["openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:x", "-out", f"{files.key}.locked"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert "the key has a password" in problem(Files(files.crt, f"{files.key}.locked", files.client_ca))


class TestSettings:
    @pytest.fixture(autouse=True)
    def variables(self, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CLUSTER", "kubernetes")
        monkeypatch.setenv("KUBELET_PROXY_ENABLED", "true")
        monkeypatch.setenv("KUBELET_PROXY_CRT_PATH", files.crt)
        monkeypatch.setenv("KUBELET_PROXY_KEY_PATH", files.key)
        monkeypatch.setenv("KUBELET_PROXY_CLIENT_CA_PATH", files.client_ca)

    def refused(self) -> str:
        with pytest.raises(ConfigurationError) as error:
            read(ControlPlaneSettings)
        (line,) = error.value.lines
        return line

    def test_defaults_are_those_of_the_original(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert read(ControlPlaneSettings).kubelet_proxy_enabled
        for name in ("ENABLED", "CRT_PATH", "KEY_PATH", "CLIENT_CA_PATH"):
            monkeypatch.delenv(f"KUBELET_PROXY_{name}")
        settings = read(ControlPlaneSettings)
        assert not settings.kubelet_proxy_enabled
        assert (settings.kubelet_proxy_port, settings.namespace) == (10250, "default")
        assert settings.kubelet_files.crt == "/etc/virtual-kubelet/tls/tls.crt"
        assert settings.kubelet_files.key == "/etc/virtual-kubelet/tls/tls.key"

    def test_missing_files_stop_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBELET_PROXY_CRT_PATH", "/none.crt")
        assert self.refused().startswith("KUBELET_PROXY_CRT_PATH=/none.crt: cannot be read")

    def test_the_embedded_cluster_has_no_use_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLUSTER", "embedded")
        assert self.refused().startswith("KUBELET_PROXY_ENABLED=true: the embedded cluster")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("KUBELET_PROXY_PORT", "0"), ("KUBELET_PROXY_PORT", "x"), ("NAMESPACE", "A"), ("NAMESPACE", "a/b")],
    )
    def test_wrong_values_stop_the_start(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        assert self.refused().startswith(f"{name}={value}: ")

    def test_turned_off_no_file_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBELET_PROXY_ENABLED", "false")
        monkeypatch.setenv("KUBELET_PROXY_CRT_PATH", "/none.crt")
        assert not read(ControlPlaneSettings).kubelet_proxy_enabled

    def test_turned_off_nothing_of_the_server_is_loaded(self) -> None:
        look = (
            "import sys, controlplane.__main__; print([n for n in sys.modules if n.startswith('controlplane.kubelet')])"
        )
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "['controlplane.kubelet', 'controlplane.kubelet.certificates']"
