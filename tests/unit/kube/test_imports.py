"""A start loads only the modules that it needs."""

import subprocess
import sys

import pytest

BESIDE = "controlplane.__main__, controlplane.settings"


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        (
            f"{BESIDE}, controlplane.embedded.cluster, controlplane.embedded.api.store",
            ["kubernetes", "python_socks", "cryptography"],
        ),
        (f"{BESIDE}, controlplane.kube.client", ["kubernetes", "requests", "cryptography"]),
        (f"{BESIDE}, controlplane.kube.client, kubernetes.aio.config", ["kubernetes.aio.client.models.v1_pod"]),
    ],
    ids=["embedded", "kubeconfig", "pod"],
)
def test_modules_that_are_not_needed_are_not_imported(imported: str, absent: list[str]) -> None:
    script = f"import sys, {imported}; print([name for name in {absent!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "[]\n"
