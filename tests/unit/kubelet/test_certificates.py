"""Settings of the kubelet API's certificates: wrong ones stop the start."""

import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.kubelet.settings import KubeletSettings
from controlplane.settings import ControlPlaneSettings
from modulecontroller.configuration import VARIABLES
from service.settings import ConfigurationError, read
from service.tls import Files
from tests.certificates import issued


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return issued(tmp_path)


class TestSettings:
    @pytest.fixture(autouse=True)
    def variables(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: Files) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CLUSTER", "kubernetes")
        monkeypatch.setenv("KUBELET_PROXY_ENABLED", "true")
        monkeypatch.setenv("KUBELET_PROXY_CRT_PATH", files.crt.path)
        monkeypatch.setenv("KUBELET_PROXY_KEY_PATH", files.key.path)
        monkeypatch.setenv("KUBELET_PROXY_CLIENT_CA_PATH", str(tmp_path / "ca.crt"))

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
        assert settings.kubelet_proxy_enabled is None
        assert (settings.kubelet_proxy_port, settings.namespace) == (10250, "default")
        assert settings.kubelet_proxy_crt_path == "/etc/virtual-kubelet/tls/tls.crt"
        assert settings.kubelet_proxy_key_path == "/etc/virtual-kubelet/tls/tls.key"
        assert settings.kubelet_files is None, "the certificate is in a Secret"

    def test_files_count_where_they_are_named_or_there(
        self, monkeypatch: pytest.MonkeyPatch, files: Files, tmp_path: Path
    ) -> None:
        found = read(ControlPlaneSettings).kubelet_files
        assert found is not None
        assert found.crt.path == files.crt.path
        (tmp_path / "ca.crt").unlink()
        assert self.refused().startswith("KUBELET_PROXY_CLIENT_CA_PATH=")
        for name in ("CRT_PATH", "KEY_PATH"):
            monkeypatch.delenv(f"KUBELET_PROXY_{name}")
        assert KubeletSettings.model_validate({}).kubelet_files is None
        monkeypatch.setattr("controlplane.kubelet.settings.Path.exists", lambda _: True)
        mounted = KubeletSettings.model_validate({}).kubelet_files
        assert mounted is not None
        assert mounted.crt.path == "/etc/virtual-kubelet/tls/tls.crt"

    def test_missing_files_stop_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBELET_PROXY_CRT_PATH", "/none.crt")
        assert self.refused().startswith("KUBELET_PROXY_CRT_PATH=/none.crt: cannot be read")

    def test_the_embedded_cluster_has_no_use_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLUSTER", "embedded")
        assert self.refused().startswith("KUBELET_PROXY_ENABLED=true: the embedded cluster")
        monkeypatch.setenv("KUBELET_EXEC_ENABLED", "true")
        assert self.refused().startswith("KUBELET_EXEC_ENABLED=true: the embedded cluster has no kubelet API")
        monkeypatch.setenv("CLUSTER", "kubernetes")
        monkeypatch.setenv("KUBELET_PROXY_ENABLED", "false")
        assert self.refused().startswith("KUBELET_EXEC_ENABLED=true needs the kubelet API")

    def test_streams_need_no_word_on_the_kubelet_api(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KUBELET_PROXY_ENABLED")
        monkeypatch.setenv("CLUSTER", "kubernetes")
        monkeypatch.setenv("KUBELET_EXEC_ENABLED", "true")
        assert read(ControlPlaneSettings).kubelet_exec_enabled

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
        loaded = "[name for name in sys.modules if name.startswith('controlplane.kubelet.')]"
        look = f"import sys, controlplane.__main__; print({loaded})"
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "['controlplane.kubelet.logtemplate', 'controlplane.kubelet.settings']"

    def test_a_wrong_template_of_a_log_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOG_SOURCE", "http://logs.example/{hots}")
        assert self.refused().startswith("LOG_SOURCE=http://logs.example/{hots}: {hots} is not one of host, ip")
