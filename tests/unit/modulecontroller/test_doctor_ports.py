"""module-controller doctor says of each port where it is, whether over TLS, to whom it is open, and of which danger."""

import json
from pathlib import Path

import pytest

from modulecontroller.configuration import survey
from modulecontroller.doctor import openports
from modulecontroller.doctor.examine import as_json, as_text, examine
from modulecontroller.doctor.findings import Finding
from tests.certificates import issued
from tests.listening import listening

EVERYWHERE = {"GRPC_HOST": "0.0.0.0", "GRPC_INSECURE": "true"}
KEY = "k" * 40


async def look(monkeypatch: pytest.MonkeyPatch, *programs: str, **variables: str) -> dict[str, Finding]:
    """Return what was found about each port, or other variable."""
    for name, value in {"MQTT_BROKER": "broker", **variables}.items():
        monkeypatch.setenv(name, value)
    found = await examine(survey(programs), checks={"open ports": openports.open_ports})
    assert all(bool(each.fix) is (each.level == "warning") for each in found)
    return {each.message.partition("=")[0]: each for each in found}


@pytest.mark.parametrize(
    ("program", "variables", "port", "expected"),
    [
        (
            "controlplane",
            {},
            "GRPC_PORT",
            "=50051 on 127.0.0.1 (this machine only), plaintext: open to who shows a bearer token of this machine",
        ),
        (
            "controlplane",
            {"CLUSTER": "kubernetes"},
            "GRPC_PORT",
            "plaintext: open to who shows a bearer token of this machine or one that the API server knows",
        ),
        (
            "controlplane",
            {"CLUSTER": "kubernetes", "GRPC_TLS_SECRET": "s"},
            "GRPC_PORT",
            "on all addresses (::), TLS: open to who shows a bearer token that the API server knows",
        ),
        ("controlplane", {}, "REPORT_PORT", "on localhost (this machine only), plaintext: open to anybody, since"),
        ("controlplane", {"STATUS_HOST": "127.0.0.1", "REPORT_TOKEN": "t"}, "REPORT_PORT", "open to who has REPORT_"),
        ("controlplane", {}, "HEALTH_PORT", "=8081 on all addresses (::), plaintext: open to anybody, who can read"),
        ("mqtt-gateway", {"STATUS_HOST": "10.0.0.7"}, "METRICS_PORT", "=9092 on 10.0.0.7, plaintext: open to anybody"),
        (
            "http-gateway",
            {"HTTP_TUNNEL_LISTEN_HOST": "127.0.0.1"},
            "HTTP_TUNNEL_LISTEN_PORT",
            "plaintext: open to any base, since no token is set",
        ),
    ],
)
async def test_each_port_has_a_line(
    monkeypatch: pytest.MonkeyPatch, program: str, variables: dict[str, str], port: str, expected: str
) -> None:
    found = (await look(monkeypatch, program, **variables))[port]
    assert found.level == "ok"
    assert expected in found.message


@pytest.mark.parametrize(
    ("program", "variables", "name", "danger"),
    [
        ("controlplane", EVERYWHERE, "GRPC_PORT", "tokens can be read on the way (GRPC_INSECURE=true)"),
        ("http-gateway", {}, "HTTP_TUNNEL_LISTEN_PORT", "whoever reaches it can announce bases"),
        ("http-gateway", {"HTTP_TUNNEL_TOKEN": "t"}, "HTTP_TUNNEL_LISTEN_PORT", "the tokens can be read on the way"),
        ("controlplane", {"REPORT_TOKEN": "t"}, "REPORT_PORT", "REPORT_TOKEN can be read on the way"),
        (
            "mqtt-gateway",
            {"CONTROL_PLANE": "far:50051,127.0.0.1:1", "GRPC_INSECURE": "true"},
            "CONTROL_PLANE",
            "CONTROL_PLANE=far:50051, plaintext: the gateway's token can be read on the way",
        ),
    ],
)
async def test_what_is_dangerous_beyond_this_machine_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, program: str, variables: dict[str, str], name: str, danger: str
) -> None:
    found = (await look(monkeypatch, program, **variables))[name]
    assert found.level == "warning"
    assert danger in found.message


async def test_with_certificates_and_tokens_nothing_is_dangerous(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = issued(tmp_path)
    assert files.client_ca is not None
    crt, key, ca = files.crt.path, files.key.path, files.client_ca.path
    names = ("GRPC_", "HTTP_TUNNEL_", "KUBELET_PROXY_")
    pairs = {f"{name}CRT_PATH": crt for name in names} | {f"{name}KEY_PATH": key for name in names}
    found = await look(
        monkeypatch,
        *("controlplane", "http-gateway"),
        CLUSTER="kubernetes",
        GRPC_CLIENT_CA_PATH=ca,
        KUBELET_PROXY_ENABLED="true",
        KUBELET_PROXY_CLIENT_CA_PATH=ca,
        HTTP_TUNNEL_TOKEN_KEYS=KEY,
        HTTP_TUNNEL_PEER_CHECK="enforce",
        **pairs,
    )
    assert {each.level for each in found.values()} == {"ok"}
    assert f"TLS: open to who shows a certificate of GRPC_CLIENT_CA_PATH={ca}" in found["GRPC_CERTIFICATE_PORT"].message
    assert "TLS: open to who may get subresources of nodes" in found["KUBELET_PROXY_PORT"].message
    bases = found["HTTP_TUNNEL_LISTEN_PORT"].message
    assert "TLS: open to bases that have a token of HTTP_TUNNEL_TOKEN_KEYS, at the addresses that they name" in bases
    assert KEY not in str(found)
    # Each port that these programs have is there.
    assert found.keys() == listening()["controlplane"] | listening()["http-gateway"]


async def test_module_controller_has_the_status_ports_of_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    for tunnel in ("ENABLE_HTTP_TUNNEL", "ENABLE_MQTT_TUNNEL"):
        monkeypatch.setenv(tunnel, "true")
    found = await look(monkeypatch, CLUSTER="kubernetes")
    assert found.keys() == listening()["module-controller"] | {"KUBELET_PROXY_PORT"}
    assert "not there without deploy/kubelet" in found["KUBELET_PROXY_PORT"].message
    assert "of this machine or one that the API server knows" in found["GRPC_PORT"].message


async def test_both_forms_have_the_lines() -> None:
    found = await examine(survey(["http-gateway"]), checks={"open ports": openports.open_ports})
    text = as_text(found)
    assert (
        "warning  open ports  HTTP_TUNNEL_LISTEN_PORT=7777 on all addresses (::), plaintext: open to any base" in text
    )
    assert "fix: set HTTP_TUNNEL_TOKEN_KEYS or HTTP_TUNNEL_TOKEN, or HTTP_TUNNEL_LISTEN_HOST=127.0.0.1" in text
    document = json.loads(as_json(found))
    assert [each["about"] for each in document["findings"]] == ["open ports"] * 3
    assert document["summary"]["warning"] == 1
